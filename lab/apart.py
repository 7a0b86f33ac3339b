"""Clouds apart: between their networks nothing passes but tunnels, as between clouds that are not joined."""

from __future__ import annotations

import itertools
import json

from lab.commands import attempt, run
from lab.place import Place

# The ports of role interconnect.
TUNNELS = "51820:51883"
CHAIN = ("-w", "-t", "mangle")


def ensure(place: Place, networks: list[str]) -> None:
    """Rules between each two of ``networks``, if the lab is one of clouds apart; else none of ours."""
    wanted = [rule for pair in itertools.permutations(networks, 2) for rule in _rules(place, *pair)]
    if not place.apart.exists():
        wanted = []
    if len(_present(place)) == len(wanted):
        return
    clear(place)
    # A table of its own: what is dropped here no rule of podman's lets through later.
    for rule in wanted:
        run(["iptables", *CHAIN, "-A", "FORWARD", *rule])


def _rules(place: Place, source: str, target: str) -> list[list[str]]:
    # By bridges too: between a host and its gateway, packets with far addresses stay on one.
    between = ["-i", _bridge(source), "-s", source, "-o", _bridge(target), "-d", target]
    between += ["-m", "comment", "--comment", place.prefix]
    return [
        [*between, "-p", "udp", "--dport", TUNNELS, "-j", "ACCEPT"],
        [*between, "-j", "DROP"],
    ]


def _bridge(network: str) -> str:
    [route] = json.loads(run(["ip", "-j", "-4", "route", "show", "exact", network]))
    return str(route["dev"])


def _present(place: Place) -> list[list[str]]:
    lines = run(["iptables", *CHAIN, "-S", "FORWARD"]).splitlines()
    words = [line.replace('"', "").split() for line in lines]
    return [rule for rule in words if rule[:1] == ["-A"] and place.prefix in rule]


def clear(place: Place) -> int:
    """Remove every rule of this lab; how many there were."""
    rules = _present(place)
    for rule in rules:
        attempt(["iptables", *CHAIN, "-D", *rule[1:]])
    return len(rules)
