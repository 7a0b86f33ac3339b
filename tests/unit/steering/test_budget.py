"""Steering's probes and the L4 tier's checks are counted together, and refused with their arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from xds_agent.model import Problem, Site, load_site
from xds_agent.steering.budget import probe_problems
from xds_agent.steering.site import scene_of

PLACES = ({"cloud": "aws", "region": "us-east-1"}, {"cloud": "gcp", "region": "us-central1"})


def problems(limit: int, *, datapath: bool = True, backends: int = 10, **more: Any) -> list[Problem]:
    endpoints = [
        {"address": f"10.{n}.0.{at}", "port": 80, **place}
        for n, place in enumerate(PLACES, 1) for at in range(1, backends + 1)
    ]  # fmt: skip
    host: dict[str, Any] = {"address": "10.9.0.1", "groups": ["ingress", "l4"], **PLACES[0]}
    if datapath:
        host |= {"interfaces": ["eth0"], "vip": "203.0.114.1"}
    check = {"type": "tcp", "interval": "500ms", "timeout": "400ms"}
    services = [
        {"name": "db", "protocol": "tcp", "listen": {"address": "vip", "port": 5432}, "health": check},
        {"name": "shop", "domains": ["shop.example.com"], "health": {"path": "/healthz", "interval": "2s"}},
    ]
    edge = {
        "certificates": [{"name": "shop"}],
        "domains": [{"name": "shop.example.com", "certificate": "shop"}],
        "limits": {"probes_per_second": limit},
        "services": [
            {**one, "endpoints": endpoints, "steering": {"order": ["aws", "gcp"]}, **more} for one in services
        ],
    }
    document = {"schema": 1, "edge": edge, "hosts": {"edge1": host}, "origins": {}}
    site: Site = load_site(document)
    return probe_problems(scene_of(site))


def test_both_are_counted_against_one_budget() -> None:
    # 20 backends: shop every 2 s by HTTP (10), db every second for steering (20), every 500 ms for XDP (40).
    assert problems(70) == []
    [one] = problems(69)
    assert one.path == "limits.probes_per_second"
    assert one.message == (
        "edge1 would have to make 20 http every 2 s (10.0) + 20 tcp every 0.5 s (40.0) "
        "+ 20 tcp every 1 s (20.0) = 70.0 probes a second, its budget is 69"
    )
    assert "1.01 times as long" in one.fix


@pytest.mark.parametrize("health", [None])
def test_what_nobody_checks_costs_the_l4_tier_nothing(health: None) -> None:
    # Steering still measures paths: 40 every 5 s.
    assert problems(8, health=health) == []
