"""Nodes that control does not know, or no longer: they get nothing, and Envoy keeps what it had."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.support.processes import Node, ask, until
from tests.support.resources import replaced, routes, site
from tests.support.site_pki import SitePki
from xds_agent.protocol.control import Acknowledged, Disconnected, Orphan

pytestmark = pytest.mark.envoy


async def settle(node: Node) -> None:
    """Give it time to try: until its agent has been turned away in words."""
    await until(lambda: "control control1" in node.agent.said())


async def test_a_name_the_revision_does_not_hold_gets_nothing(control, make_node, backends, listen):
    control.publish({"somebody-else": site(listen, {"shop": [backends[0].port]})})
    stranger = await make_node("stranger")
    orphan = await control.until(Orphan, node="stranger")
    assert orphan.reason
    # A write that meets the end of the stream hides its status from grpcio; a later attempt shows it.
    await until(lambda: "PERMISSION_DENIED" in stranger.agent.said())
    with pytest.raises(OSError):
        await ask(listen, "shop")


@pytest.mark.parametrize("kind", ["foreign", "expired", "revoked", "none"])
async def test_a_certificate_that_proves_nothing_gets_nothing(control, pki, tmp_path, backends, listen, kind):
    name = f"edge-{kind}"
    control.publish({name: site(listen, {"shop": [backends[0].port]})})
    node = Node(tmp_path / kind, pki, name, [control.address])
    match kind:
        case "foreign":
            other = SitePki(tmp_path / "foreign-pki").host(name)
            node.files.certificate.write_bytes(other.certificate.read_bytes())
            node.files.key.write_bytes(other.key.read_bytes())
        case "expired":
            pki.host(name, life=dt.timedelta(seconds=-60))
        case "revoked":
            pki.revoke(node.files.serial)
        case "none":
            node.files.certificate.unlink()
    try:
        await node.start()
        await settle(node)
        with pytest.raises(OSError):
            await ask(listen, "shop")
        assert not any(getattr(outcome, "node", "") == name for outcome in control.outcomes)
        if kind == "revoked":
            assert name in {refusal.identity for refusal in control.refusals}
    finally:
        await node.close()


async def test_revoking_a_live_node_cuts_its_stream_and_its_envoy_serves_on(
    control, pki, node, backends, listen
):
    first = site(listen, {"shop": [backends[0].port]})
    assert isinstance(await control.apply("edge1", first), Acknowledged)
    pki.revoke(node.files.serial)
    await control.until(Disconnected, node="edge1")
    control.publish({"edge1": replaced(first, routes("edge", {"shop": "shop"}, mark="secret"))})
    # Its stream has ended; once it has been turned away with the next one, it has what it can have.
    await until(lambda: "revoked" in node.agent.said())
    status, headers, _ = await ask(listen, "shop")
    assert status == 200
    assert "x-mark" not in headers
