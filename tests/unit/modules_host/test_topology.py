"""The module `topology_facts`: what was promised of a host's network card, and what stands against XDP."""

from __future__ import annotations

from typing import Any

from ansible_collections.marchproxy.edge.plugins.module_utils import xdp_conditions

from modules import topology_facts

NICS = {"ens5": {"driver": "ena", "mtu": 9001, "queues": 4, "queues_max": 8}}


def _breaches(**promised: Any) -> list[str]:
    given = {"name": "", "driver": None, "queues": None, "mtu": None}
    return topology_facts.breaches([given | promised], NICS, "ens5")


def test_a_contract_that_holds() -> None:
    assert _breaches(driver="ena", mtu=9001, queues=8) == []
    assert _breaches() == []


def test_drift_is_named_with_both_values() -> None:
    assert _breaches(driver="gve", mtu=1460, queues=16) == [
        "ens5: driver gve was promised, it is ena",
        "ens5: MTU 1460 was promised, it is 9001",
        "ens5: 16 queues were promised, it has 8",
    ]
    assert _breaches(name="ens6") == ["interface ens6 was promised; there are: ens5"]


def test_what_is_attached_is_read_from_the_link() -> None:
    assert topology_facts.attached({}) == {"mode": "none", "program": 0}
    link = {"xdp": {"mode": 1, "prog": {"id": 42, "tag": "ab"}}}
    assert topology_facts.attached(link) == {"mode": "native", "program": 42}


def _obstacles(driver: str, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"mtu": 1500, "channels": 4, "channels_max": 8}
    return xdp_conditions.obstacles(driver, **(given | changes))


def test_conditions_of_the_clouds() -> None:
    """ENA wants half its channels and a frame that fits a page; on Azure it is netvsc, never the VF."""
    assert _obstacles("ena") == []
    (words,) = _obstacles("ena", channels=8)
    assert "set channels.combined to 4" in words
    (words,) = _obstacles("gve", mtu=1460, channels=8)
    assert "gve needs as many again" in words
    (words,) = _obstacles("gve", mtu=8896)
    assert "2032 or less" in words
    (words,) = _obstacles("ena", mtu=9001)
    assert "set it to 3498 or less" in words
    (words,) = _obstacles("mlx5_core", below_netvsc=True)
    assert "attach to the netvsc interface" in words
    assert _obstacles("mlx5_core") == []
    assert _obstacles("gve", mtu=1460) == []
