"""What Envoy refuses comes back in Envoy's words, with the names, after the node is on its last good set."""

from __future__ import annotations

import os
import socket

import pytest

from tests.support.ports import free_port
from tests.support.processes import ask
from tests.support.resources import cluster, endpoints, listener, replaced, routes, site
from xds_agent.protocol.control import Acknowledged, Refused
from xds_agent.snapshot.resource import LISTENER

pytestmark = pytest.mark.envoy


@pytest.fixture
async def good(control, node, backends, listen):
    snapshot = site(listen, {"shop": [backends[0].port]})
    assert isinstance(await control.apply("edge1", snapshot), Acknowledged)
    return snapshot


async def still_takes_changes(control, good, backends, listen):
    """No wedge: the next good revision is applied and served."""
    after = replaced(
        good,
        cluster("later"),
        endpoints("later", backends[1].port),
        routes("edge", {"shop": "shop", "later": "later"}),
        number=50,
    )
    assert isinstance(await control.apply("edge1", after), Acknowledged)
    assert (await ask(listen, "later"))[::2] == (200, "two")
    assert (await ask(listen, "shop"))[::2] == (200, "one")


async def test_a_bad_regex_is_refused_in_envoys_words(control, node, good, backends, listen):
    bad = replaced(good, routes("edge", {"shop": "shop"}, regex="(unclosed"))
    answer = await control.apply("edge1", bad)
    assert isinstance(answer, Refused)
    assert "edge" in answer.names
    assert "missing )" in answer.words
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    assert control.core.nodes()["edge1"].active == good.revision
    await still_takes_changes(control, good, backends, listen)


async def test_a_bad_ring_of_a_new_cluster_does_not_wedge(control, node, good, backends, listen):
    """xDS rule 17: without the clean-up, no later CDS update is ever acknowledged."""
    bad = replaced(good, cluster("ring", bad_ring=True), endpoints("ring", backends[1].port), routes(
        "edge", {"shop": "shop", "ring": "ring"}
    ))  # fmt: skip
    answer = await control.apply("edge1", bad)
    assert isinstance(answer, Refused)
    assert "ring" in answer.names
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    await still_takes_changes(control, good, backends, listen)


async def test_a_bad_update_of_a_live_cluster_beside_a_good_new_one(control, node, good, backends, listen):
    """Trap 1: Envoy withholds this NACK while the good cluster of the same response warms."""
    bad = replaced(
        good,
        cluster("shop", bad_ring=True),
        cluster("fine"),
        endpoints("fine", backends[1].port),
        routes("edge", {"shop": "shop", "fine": "fine"}),
    )
    answer = await control.apply("edge1", bad)
    assert isinstance(answer, Refused)
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    await still_takes_changes(control, good, backends, listen)


async def test_a_route_to_a_cluster_nobody_has_is_refused(control, node, good, listen):
    """Trap 5: without validate_clusters Envoy would acknowledge it and answer 503."""
    bad = replaced(good, routes("edge", {"shop": "nowhere"}))
    answer = await control.apply("edge1", bad)
    assert isinstance(answer, Refused)
    assert "nowhere" in answer.words
    assert (await ask(listen, "shop"))[::2] == (200, "one")


async def test_a_port_of_another_process_is_refused_before_envoy_sees_it(
    control, node, good, backends, listen
):
    """Envoy would share the port with whoever set SO_REUSEPORT, and clients would meet one of the two."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Envoy listens on it later.
        stranger.bind(("127.0.0.1", port := free_port()))
        stranger.listen()
        answer = await control.apply("edge1", replaced(good, listener("second", port, "edge")))
    assert isinstance(answer, Refused)
    assert (answer.type_url, answer.names) == (LISTENER, ("second",))
    assert f"listener second wants TCP port {port}, on which" in answer.words
    assert f"(pid {os.getpid()}, user " in answer.words
    assert (await ask(listen, "shop"))[::2] == (200, "one")
    assert isinstance(await control.apply("edge1", good), Acknowledged)
    after = replaced(good, listener("second", port, "edge"), number=9)
    assert isinstance(await control.apply("edge1", after), Acknowledged), "the stranger is gone"


async def test_ten_refusals_in_a_row_leave_it_as_it_was(control, node, good, backends, listen):
    for number in range(10):
        bad = replaced(good, routes("edge", {"shop": "shop"}, regex=f"({number}"), number=number + 2)
        assert isinstance(await control.apply("edge1", bad), Refused)
    await still_takes_changes(control, good, backends, listen)
