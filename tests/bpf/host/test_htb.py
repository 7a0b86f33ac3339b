"""Whose HTB it is: trees and classes that others made, those of the agent, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bpf.host.networks import Backend, Edge, Networks, until
from tests.bpf.host.shaped import by_envoy, classes, roots, tc

pytestmark = pytest.mark.root


def test_classes_of_others_are_left_alone(networks: Networks, edge: Edge, proxy: Backend) -> None:
    """The kernel lists those of every qdisc of the card: nested ones, and each waiting flow of a fair queue,
    which has a number like theirs."""
    by_hand = """
        qdisc add dev eth0 root handle 1: htb default 13
        class add dev eth0 parent 1: classid 1:1 htb rate 1gbit
        class add dev eth0 parent 1:1 classid 1:10 htb rate 200mbit ceil 1gbit prio 0
        class add dev eth0 parent 1:1 classid 1:11 htb rate 400mbit ceil 1gbit prio 1
        class add dev eth0 parent 1:1 classid 1:12 htb rate 300mbit ceil 1gbit prio 2
        class add dev eth0 parent 1:1 classid 1:13 htb rate 100mbit ceil 1gbit prio 3
        class add dev eth0 parent 1:1 classid 1:900 htb rate 10mbit
        qdisc add dev eth0 parent 1:900 handle 8001: htb default 5
        class add dev eth0 parent 8001: classid 8001:5 htb rate 5mbit
    """
    tc(networks, *by_hand.strip().splitlines())
    assert edge.apply(by_envoy("tcp", bandwidth={"egress": "800mbit"})) == ""
    number = next(one["id"] for one in edge.ask("state")["services"])
    assert classes(networks).keys() >= {f"1:{0x100 + number:x}", "1:900", "8001:5"}
    assert edge.apply(by_envoy("tcp")) == ""
    assert classes(networks).keys() == {"1:1", "1:10", "1:11", "1:12", "1:13", "1:900", "8001:5"}


def test_a_tree_by_hand_is_not_taken_for_ours(networks: Networks, edge: Edge, proxy: Backend) -> None:
    """1:1 is the commonest number there is; an inventory without bandwidths touches nothing of it."""
    by_hand = """
        qdisc add dev eth0 root handle 1: htb default 100
        class add dev eth0 parent 1: classid 1:1 htb rate 1gbit
        class add dev eth0 parent 1:1 classid 1:100 htb rate 10mbit
    """
    tc(networks, *by_hand.strip().splitlines())
    before = classes(networks).keys()
    assert edge.apply(by_envoy("udp", qos="P0")) == ""
    assert classes(networks).keys() == before
    words = edge.apply(by_envoy("tcp", bandwidth={"egress": "10mbit"}))
    assert "eth0: htb stands at the root of its egress, and not by us" in words
    assert classes(networks).keys() == before


def test_the_root_goes_with_the_last_bandwidth(networks: Networks, edge: Edge, proxy: Backend) -> None:
    """Only a tree that the agent made, also by its predecessor; not one that has a link's rate since."""
    kernels = roots(networks)
    wanted = by_envoy("tcp", bandwidth={"egress": "10mbit"})
    assert edge.apply(wanted) == ""
    assert "htb 1:" in roots(networks)
    assert edge.apply(by_envoy("tcp")) == ""
    assert roots(networks) == kernels
    assert edge.apply(wanted) == ""
    edge.kill()
    assert edge.start() == "" and edge.apply(by_envoy("tcp")) == ""
    assert roots(networks) == kernels
    assert edge.apply(wanted) == ""
    tc(networks, "class add dev eth0 parent 1:1 classid 1:900 htb rate 10mbit")
    assert edge.apply(by_envoy("tcp")) == ""
    assert classes(networks).keys() == {"1:1", "1:10", "1:11", "1:12", "1:13", "1:900"}
    tc(networks, "class del dev eth0 classid 1:900")
    assert edge.apply(wanted) == ""
    tc(networks, "class change dev eth0 parent 1: classid 1:1 htb rate 1gbit")
    assert edge.apply(by_envoy("tcp")) == ""
    assert "htb 1:" in roots(networks)


def test_a_tree_whose_maker_died_half_way_is_completed(
    networks: Networks, edge: Edge, proxy: Backend, tmp_path: Path
) -> None:
    tc(networks, "qdisc add dev eth0 root handle 1: htb default 13")
    begun = {"index": networks.index("edge"), "directions": [], "tree": True, "classes": []}
    (tmp_path / "shaping.json").write_text(json.dumps({"eth0": begun}))
    assert edge.apply(by_envoy("tcp", bandwidth={"egress": "10mbit"})) == ""
    assert classes(networks).keys() > {"1:1", "1:10", "1:11", "1:12", "1:13"}


def test_a_root_of_somebody_elses_is_named_and_nothing_changes(networks: Networks, edge: Edge) -> None:
    networks.run("edge", "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "tbf",
                 "rate", "1gbit", "burst", "100k", "latency", "10ms")  # fmt: skip
    words = edge.apply(by_envoy("tcp", bandwidth={"egress": "10mbit"}))
    assert "eth0: tbf stands at the root of its egress, and not by us" in words
    assert edge.ask("state")["services"] == []


def test_a_root_that_somebody_takes_away_comes_again_without_an_edit(
    networks: Networks, edge: Edge, proxy: Backend
) -> None:
    """A class alone too; and what comes in its place by somebody else is named until it is gone."""
    assert edge.apply(by_envoy("tcp", qos="P1", bandwidth={"egress": "80mbit"})) == ""
    before = classes(networks)
    [handle] = [one for one in before if before[one]["rate"] == "80Mbit"]

    def is_as_before() -> bool:
        now = classes(networks)
        return now.keys() == before.keys() and now[handle]["rate"] == "80Mbit"

    tc(networks, "qdisc del dev eth0 root")
    until(is_as_before, "the root stayed away")
    tc(networks, f"class del dev eth0 classid {handle}")
    until(is_as_before, "the class stayed away")
    tc(networks, "qdisc replace dev eth0 root handle 7: tbf rate 1gbit burst 100k latency 10ms")
    edge.until(lambda found: "tbf stands at the root of its egress, and not by us" in found["problem"])
    tc(networks, "qdisc del dev eth0 root")
    edge.until(lambda found: found["problem"] == "")
    assert is_as_before()
