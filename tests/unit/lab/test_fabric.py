"""Rules of simulated clouds as a table of nftables (what packets meet: tests/lab/test_from_pulumi.py)."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from lab.fabric.filter import Guard, Machine, Ways, card_of, filter_of, nothing_of
from lab.fabric.routes import MARK, Probe, Route, Subnet, asked, number_of, numbers, table_of

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
WAYS = Ways(
    public={EDGE.address: "198.18.0.1"},
    outbound={EDGE.address: "198.18.0.1", BACKEND.address: "198.18.0.9"},
    services={("169.254.169.254", 80): ("10.150.9.200", 80)},
    outside="clients",
    ranges=("10.150.64.0-10.150.255.255",),
    probes=("35.191.0.9",),
    mark=MARK,
)
CHECK = Probe("35.191.0.9", 51820, "/", 2, 2)
GATEWAYS = ("10.150.72.2", "10.150.72.3")
SUBNET = Subnet(
    "10.150.74.0/26", ("10.150.72.0/26", "10.150.74.0/26"), (Route("10.150.68.0/22", GATEWAYS, CHECK),)
)


def text_of(*machines: Machine, bridges: tuple[str, ...] = ("podman1", "podman2")) -> str:
    return filter_of("test-fabric", machines=machines, bridges=bridges, ranges=RANGES, ways=WAYS)


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


def test_what_leaves_a_cloud_has_a_public_source_or_goes_nowhere() -> None:
    text = text_of(EDGE, BACKEND)
    named = f"{{ {EDGE.address} : 198.18.0.1, {BACKEND.address} : 198.18.0.9 }}"
    assert chain(text, "leaving")[-1] == (
        f'oifname "clients" ip daddr != {{ 10.150.9.200 }} snat to ip saddr map {named}'
    ), "the clouds' own services know hosts by their private addresses"
    [dropped] = [line for line in chain(text, "balanced") if line.endswith("drop")]
    assert f"ip saddr != {{ {EDGE.address}, {BACKEND.address} }} ip daddr != {{ 10.150.64.0-" in dropped
    assert 'iifname { "podman1", "podman2", "clients" } ip daddr 198.18.0.0/15 counter drop' in chain(
        text, "routed"
    ), "a public address that is nobody's"


def test_a_host_that_no_rule_knows_yet_gets_and_sends_nothing() -> None:
    text = text_of()
    for name in ("sent", "delivered"):
        assert chain(text, name)[-1] == "counter drop" and not any(
            "goto" in line for line in chain(text, name)
        )


def test_a_table_holds_what_its_cloud_says_and_drops_the_rest() -> None:
    outside = {"35.191.0.9/32": "10.150.9.2"}
    dropped = {
        "default": ("blackhole",),
        "35.191.0.9/32": ("via", "10.150.9.2"),
        "10.150.72.0/26": ("throw",),
        "10.150.74.0/26": ("throw",),
    }
    assert asked([SUBNET]) == {(CHECK, gateway) for gateway in GATEWAYS}
    assert table_of(SUBNET, well=(), outside=outside) == dropped, "whoever is not well is no way"
    one = table_of(SUBNET, well={(CHECK, GATEWAYS[1])}, outside=outside)
    assert one == dropped | {"10.150.68.0/22": ("via", GATEWAYS[1])}
    both = table_of(SUBNET, well=asked([SUBNET]), outside=outside)["10.150.68.0/22"]
    assert both == ("nexthop", "via", GATEWAYS[0], "nexthop", "via", GATEWAYS[1])


def test_tables_of_subnets_and_of_labs_are_apart() -> None:
    thirds, fourths = (64, 65, 255), (0, 64, 192)
    ranges = [f"10.{lab}.{third}.{fourth}/26" for lab in (150, 151) for third in thirds for fourth in fourths]
    assert len({number_of(range_) for range_ in ranges}) == len(ranges)
    assert all((number_of(range_) in numbers(150)) == range_.startswith("10.150.") for range_ in ranges)


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("nft"), reason="nft asks the kernel, as root")
@pytest.mark.parametrize("text", [text_of(EDGE, BACKEND), text_of(), nothing_of("test-fabric")])
def test_the_kernel_takes_it(text: str) -> None:
    done = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
