"""Control to node agent to a real Envoy and back: every type, and what requests then meet."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl

import pytest

from tests.support.ports import free_port
from tests.support.processes import ask, until
from tests.support.resources import cluster, endpoints, listener, replaced, routes, secret, site
from tests.support.site_pki import key_pem, new_key
from xds_agent.protocol.control import Acknowledged
from xds_agent.snapshot.resource import Snapshot

pytestmark = pytest.mark.envoy


@pytest.fixture
async def first(control, node, backends, listen):
    """The first set, live on node edge1: service `shop` at backend one."""
    snapshot = site(listen, {"shop": [backends[0].port]})
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    return snapshot


async def test_a_first_configuration_serves_as_soon_as_it_is_acknowledged(control, node, first, listen):
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    assert await node.envoy.admin.is_live()
    assert control.core.nodes()["edge1"].active == first.revision


async def test_endpoints_move(control, node, first, backends, listen):
    moved = replaced(first, endpoints("shop", backends[1].port))
    assert isinstance(await control.apply("edge1", moved), Acknowledged)
    assert (await ask(listen, "shop"))[::2] == (200, "two")


async def test_a_changed_cluster_is_warm_with_its_unchanged_endpoints(control, node, first, listen):
    """xDS rule 13: without the EDS behind it, this acknowledgement takes Envoy 15 s."""
    changed = replaced(first, cluster("shop", connect_timeout_ms=777))
    answer = await control.apply("edge1", changed, patience_s=10)
    assert isinstance(answer, Acknowledged)
    assert (await ask(listen, "shop"))[0] == 200


async def test_a_new_service_and_its_route_come_together(control, node, first, backends, listen):
    wider = replaced(
        first,
        cluster("chat"),
        endpoints("chat", backends[1].port),
        routes("edge", {"shop": "shop", "chat": "chat"}),
    )
    assert isinstance(await control.apply("edge1", wider), Acknowledged)
    assert (await ask(listen, "chat"))[::2] == (200, "two")
    narrow = Snapshot.of([r for named in first.resources.values() for r in named.values()], number=9)
    assert isinstance(await control.apply("edge1", narrow), Acknowledged)
    assert (await ask(listen, "chat"))[0] == 404
    async with asyncio.timeout(20):
        # It lingers for requests on their way; then shop is left, and the agent's own.
        while await clusters(node) != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def clusters(node) -> int:
    left = await node.envoy.admin.get("/stats?filter=^cluster_manager.active_clusters$")
    return int(left.split()[1])


async def test_a_route_changes(control, node, first, listen):
    marked = replaced(first, routes("edge", {"shop": "shop"}, mark="second"))
    assert isinstance(await control.apply("edge1", marked), Acknowledged)
    status, headers, _ = await ask(listen, "shop")
    assert (status, headers["x-mark"]) == (200, "second")


async def test_a_listener_appears_with_its_certificate_which_then_rotates(control, node, first, pki, listen):
    port = free_port()

    def served(serial_names):
        return pki.issuer.sign_service(serial_names.public_key(), names=["shop"], now=dt.datetime.now(dt.UTC))

    one, two = new_key(), new_key()
    chains = [served(one), served(two)]
    secured = replaced(
        first,
        secret("shop", chains[0], key_pem(one)),
        listener("secure", port, "edge", certificate="shop", stat_prefix="secure"),
    )
    assert isinstance(await control.apply("edge1", secured), Acknowledged)
    assert await _leaf(port, pki) == _first(chains[0])
    rotated = replaced(secured, secret("shop", chains[1], key_pem(two)))
    assert isinstance(await control.apply("edge1", rotated), Acknowledged)
    assert await _leaf(port, pki) == _first(chains[1])


async def test_a_newer_revision_wins_over_one_that_is_still_under_way(control, node, first, backends, listen):
    sets = [replaced(first, routes("edge", {"shop": "shop"}, mark=f"m{n}")) for n in range(20)]
    for snapshot in sets:
        control.publish({"edge1": snapshot})
        await asyncio.sleep(0.001)
    assert isinstance(await control.answer("edge1", sets[-1]), Acknowledged)
    assert (await ask(listen, "shop"))[1]["x-mark"] == "m19"


async def test_reports_say_what_is_active_and_how_envoy_is(control, node, first):
    await until(
        lambda: any(
            getattr(said, "active_revision", "") == first.revision and said.envoy_state == "LIVE"
            for _, said in control.reports
        )
    )
    hello = next(said for name, said in control.reports if hasattr(said, "agent_version"))
    assert hello.kernel
    assert all(name == "edge1" for name, _ in control.reports)


async def test_metrics_are_ours_and_envoys(control, node, first):
    port = node.config.metrics.port
    status, _, body = await ask(port, "any", "/healthz")
    assert (status, body) == (200, "ok\n")
    status, _, body = await ask(port, "any", "/metrics")
    assert status == 200
    assert 'marchproxy_revisions_total{outcome="active"} 1.0' in body
    assert "envoy_cluster_manager_cds_update_success" in body
    assert "envoy_server_live 1" in body.replace("{} ", " ")
    assert "envoy_cluster_lb_" not in body


def _first(chain: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        chain.decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    )


async def _leaf(port: int, pki) -> bytes:
    context = ssl.create_default_context(cadata=(pki.folder / "ca.crt").read_text())
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="shop")
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
