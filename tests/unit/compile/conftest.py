"""A small site to change, and its material in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.golden import words_for_keys
from xds_agent.compile import Compiled, Compiler
from xds_agent.model import Site, load_site

Edge = dict[str, Any]


@pytest.fixture
def edge() -> Edge:
    return {
        "tenants": [{"name": "red"}, {"name": "blue"}],
        "certificates": [{"name": "web"}, {"name": "blue"}],
        "domains": [
            {"name": "a.example.com", "tenant": "red", "certificate": "web"},
            {"name": "b.example.com", "tenant": "red", "certificate": "web"},
            {"name": "blue.example.com", "tenant": "blue", "certificate": "blue"},
        ],
        "services": [
            {"name": "a", "tenant": "red", "domains": ["a.example.com"], "endpoints": [_at("10.1.0.1")]},
            {"name": "b", "tenant": "red", "domains": ["b.example.com"], "endpoints": [_at("10.1.0.2")]},
            {
                "name": "blue",
                "tenant": "blue",
                "domains": ["blue.example.com"],
                "endpoints": [_at("10.1.0.3")],
            },
        ],
        "routes": [],
    }


HOSTS: dict[str, Any] = {
    "both1": {"address": "10.0.0.1", "groups": ["ingress"], "cloud": "aws"},
    "both2": {"address": "10.0.0.2", "groups": ["ingress"], "cloud": "gcp"},
    "red1": {"address": "10.0.0.3", "groups": ["ingress"], "tenants": ["red"]},
    "blue1": {"address": "10.0.0.4", "groups": ["ingress"], "tenants": ["blue"]},
    "egress1": {"address": "10.0.0.5", "groups": ["egress"]},
    "backend1": {"address": "10.0.0.6", "groups": ["backends"], "cloud": "aws"},
}


@pytest.fixture
def load() -> Callable[[Edge], Site]:
    return lambda edge: load_site({"schema": 1, "edge": edge, "hosts": HOSTS, "origins": {}})


@pytest.fixture
def compiled(load: Callable[[Edge], Site]) -> Callable[..., Compiled]:
    """compiled(edge, compiler=None): as the control plane would, keys being words."""

    def run(edge: Edge, compiler: Compiler | None = None) -> Compiled:
        site = load(edge)
        return (compiler or Compiler()).compile(site, words_for_keys(site))

    return run


def _at(address: str) -> dict[str, Any]:
    return {"address": address, "port": 8080}
