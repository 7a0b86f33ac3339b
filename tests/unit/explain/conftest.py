"""Small sites and snapshots whose differences a test can see at a glance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from xds_agent.model import Site, load_site
from xds_agent.snapshot.resource import CLUSTER, Resource, Snapshot

HOSTS: dict[str, dict[str, Any]] = {
    "edge-aws1": {"address": "10.0.0.1", "groups": ["aws", "ingress"], "cloud": "aws"},
    "edge-aws2": {"address": "10.0.0.2", "groups": ["aws", "ingress"], "cloud": "aws"},
    "backend1": {"address": "10.0.1.1", "groups": ["backends"], "cloud": "aws", "region": "us-east-1"},
}
EDGE: dict[str, Any] = {
    "certificates": [{"name": "shop"}],
    "domains": [{"name": "shop.example.com", "certificate": "shop"}],
    "services": [
        {
            "name": "shop",
            "domains": ["shop.example.com"],
            "endpoints": [{"group": "backends", "port": 8080}],
        },
        {"name": "shop-v2", "endpoints": [{"address": "10.0.1.9", "port": 8090}]},
    ],
    "routes": [{"name": "api", "domains": ["shop.example.com"], "prefix": "/api", "service": "shop"}],
}

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def document() -> dict[str, Any]:
    """A site document of its own for each test."""
    return {"schema": 1, "edge": copy.deepcopy(EDGE), "hosts": copy.deepcopy(HOSTS), "origins": {}}


@pytest.fixture
def edited(document: dict[str, Any]) -> Callable[[Edit], Site]:
    """The site after an edit of its document."""

    def apply(edit: Edit) -> Site:
        new = copy.deepcopy(document)
        edit(new)
        return load_site(new)

    return apply


@pytest.fixture
def snapshots() -> Callable[..., dict[str, Snapshot]]:
    """One snapshot for each host; another mark, other bytes."""

    def make(mark: str, *hosts: str) -> dict[str, Snapshot]:
        cluster = cluster_pb2.Cluster(name="shop", alt_stat_name=mark)
        snapshot = Snapshot.of([Resource.of(CLUSTER, "shop", cluster)])
        return dict.fromkeys(hosts or ("edge-aws1", "edge-aws2"), snapshot)

    return make
