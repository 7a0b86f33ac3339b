"""Who sees what: tenants, roles, and snapshots shared by hosts that see the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from xds_agent.compile import Compiled
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME, SECRET


def test_hosts_that_see_the_same_share_one_snapshot(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    done = compiled(edge)
    snapshots = done.snapshots()
    assert snapshots["both1"] is snapshots["both2"]
    assert done.views["both1"] != done.views["both2"]
    assert set(snapshots) == {"both1", "both2", "red1", "blue1", "egress1"}


def test_a_tenant_never_holds_anothers_resources(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    edge["services"][0]["upstream_tls"] = {"ca": "site-ca", "sni": "x"}
    snapshots = compiled(edge).snapshots()
    red, blue = snapshots["red1"], snapshots["blue1"]
    assert set(red.of_type(CLUSTER)) == set(red.of_type(ENDPOINTS)) == {"a", "b"}
    assert set(blue.of_type(CLUSTER)) == {"blue"}
    assert set(red.of_type(SECRET)) == {"certificate/web", "trust/site-ca"}
    assert set(blue.of_type(SECRET)) == {"certificate/blue"}
    for word in (b"blue", b"10.1.0.3"):
        assert not [r.name for named in red.resources.values() for r in named.values() if word in r.raw]
    for word in (b"a.example.com", b"web", b"10.1.0.1", b"site-ca"):
        assert not [r.name for named in blue.resources.values() for r in named.values() if word in r.raw]


def test_egress_holds_an_empty_but_valid_set(edge: dict[str, Any], compiled: Callable[..., Compiled]) -> None:
    snapshot = compiled(edge).snapshots()["egress1"]
    assert set(snapshot.of_type(RUNTIME)) == {"runtime"}
    for type_url in (LISTENER, ROUTES, CLUSTER, ENDPOINTS, SECRET):
        assert not snapshot.of_type(type_url)


def test_the_order_of_an_inventory_does_not_show(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    edge["services"][0]["endpoints"].append({"address": "10.1.0.9", "port": 8080, "cloud": "aws"})
    edge["routes"] = [
        {"domains": ["a.example.com"], "prefix": "/x", "service": "b"},
        {"domains": ["a.example.com"], "prefix": "/y", "service": "b"},
    ]
    turned = copy.deepcopy(edge)
    for key in ("certificates", "domains", "services", "routes", "tenants"):
        turned[key].reverse()
    turned["services"][-1]["endpoints"].reverse()
    assert compiled(edge).snapshots()["both1"].revision == compiled(turned).snapshots()["both1"].revision
