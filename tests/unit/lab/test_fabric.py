"""Rules of simulated clouds as a table of nftables (what packets meet: tests/lab/test_from_pulumi.py)."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from lab.fabric.filter import Guard, Machine, card_of, filter_of, nothing_of

ALL = (1, 65535)
EDGE = Machine(
    "edge", "10.150.68.4", True,
    (Guard(True, ("0.0.0.0/0",), "tcp", ((443, 443), (8080, 8082))), Guard(True, ("0.0.0.0/0",), "icmp", ())),
)  # fmt: skip
BACKEND = Machine(
    "backend", "10.150.70.4", False,
    (
        Guard(True, ("10.150.68.4/32", "10.150.68.0/26"), "tcp", (ALL,)),
        Guard(False, ("10.150.0.0/16",), "all", ()),
        Guard(True, ("0.0.0.0/0",), "udp", ()),
    ),
)  # fmt: skip
RANGES = ("10.150.64.0", "10.150.255.255")


def text_of(*machines: Machine, bridges: tuple[str, ...] = ("podman1", "podman2")) -> str:
    return filter_of("test-fabric", machines=machines, bridges=bridges, ranges=RANGES)


def chain(text: str, name: str) -> list[str]:
    inside = text.partition(f"  chain {name} {{\n")[2].partition("\n  }")[0]
    return [line.strip() for line in inside.splitlines()]


def test_a_machine_lets_in_what_its_rules_say_in_their_order_and_else_nothing() -> None:
    text = text_of(EDGE, BACKEND)
    assert chain(text, "to-edge") == [
        "ct state established,related accept",
        "ip saddr { 0.0.0.0/0 } tcp dport { 443, 8080-8082 } accept",
        "ip saddr { 0.0.0.0/0 } meta l4proto icmp accept",
        "counter drop",
    ]
    assert chain(text, "to-backend") == [
        "ip daddr != 10.150.70.4 counter drop",
        "ct state established,related accept",
        # A set takes no overlaps.
        "ip saddr { 10.150.68.0/26 } tcp dport { 1-65535 } accept",
        "ip saddr { 10.150.0.0/16 } counter drop",
        "ip saddr { 0.0.0.0/0 } meta l4proto udp accept",
        "counter drop",
    ]


def test_only_a_machine_that_forwards_sends_packets_of_others() -> None:
    sent = chain(text_of(EDGE, BACKEND), "sent")
    assert f"ether saddr {{ {card_of(EDGE.address)} }} accept" in sent
    assert f"ether saddr . ip saddr {{ {card_of(BACKEND.address)} . {BACKEND.address} }} accept" in sent
    assert sent[-1] == "counter drop"


def test_a_host_that_no_rule_knows_yet_gets_and_sends_nothing() -> None:
    text = text_of()
    for name in ("sent", "delivered"):
        assert chain(text, name)[-1] == "counter drop" and not any(
            "goto" in line for line in chain(text, name)
        )


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("nft"), reason="nft asks the kernel, as root")
@pytest.mark.parametrize("text", [text_of(EDGE, BACKEND), text_of(), nothing_of("test-fabric")])
def test_the_kernel_takes_it(text: str) -> None:
    done = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
