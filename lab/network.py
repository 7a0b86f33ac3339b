"""One podman network per cloud, routed to each other without masquerading."""

from __future__ import annotations

import ipaddress
import json

from lab.commands import attempt, podman, podman_json, run
from lab.errors import LabError
from lab.place import FIRST_OCTET, OCTETS, Network, Place

# On everything of ours that podman holds: the checkout, and which of its labs (the lab, or molecule's hosts).
CHECKOUT, NAME = "marchproxy.checkout", "marchproxy.lab"


def labels(place: Place) -> list[str]:
    return ["--label", f"{CHECKOUT}={place.root}", "--label", f"{NAME}={place.name}"]


def of_checkout(place: Place) -> set[str]:
    """Names of the networks of all labs of this checkout."""
    found = podman_json("network", "ls", "--format", "json", "--filter", f"label={CHECKOUT}={place.root}")
    return {entry["name"] for entry in found}


def existing(place: Place) -> set[str]:
    """Names of the networks this lab already has."""
    found = podman_json(
        "network", "ls", "--format", "json", "--filter", f"label={CHECKOUT}={place.root}",
        "--filter", f"label={NAME}={place.name}",
    )  # fmt: skip
    return {entry["name"] for entry in found if entry["labels"].get(NAME) == place.name}


def ensure(place: Place, missing: list[Network]) -> None:
    """Make the networks in ``missing``, named and numbered as ``place`` says."""
    for network in missing:
        podman(
            "network", "create", "--driver", "bridge", "--subnet", network.subnet,
            "--gateway", network.gateway,
            *labels(place), network.name,
        )  # fmt: skip


def free_octet(place: Place) -> int:
    """``place.octet``, or the next whose /16 touches no route of this machine and no network of podman."""
    taken = _taken(place)
    for step in range(OCTETS):
        octet = FIRST_OCTET + (place.octet - FIRST_OCTET + step) % OCTETS
        if not any(ipaddress.ip_network(f"10.{octet}.0.0/16").overlaps(other) for other in taken):
            return octet
    raise LabError(
        "no free range for the lab in 10.128.0.0 to 10.223.0.0", "remove a podman network or a route"
    )


def _taken(place: Place) -> list[ipaddress.IPv4Network]:
    ours = of_checkout(place)
    bridges, ranges = set(), []
    for entry in podman_json("network", "ls", "--format", "json"):
        if entry["name"] in ours:
            bridges.add(entry.get("network_interface"))
            continue
        ranges += [subnet["subnet"] for subnet in entry.get("subnets") or []]
    for route in json.loads(run(["ip", "-j", "-4", "route", "show", "table", "main"]) or "[]"):
        if route["dst"] != "default" and route.get("dev") not in bridges:
            ranges.append(route["dst"])
    return [
        net
        for text in ranges
        if isinstance(net := ipaddress.ip_network(text, strict=False), ipaddress.IPv4Network)
    ]


# Without this rule netavark masquerades what leaves one network for another, and every host would see a
# gateway as the source of a request.
def _rule(place: Place) -> list[str]:
    return [
        "-s",
        place.supernet,
        "-d",
        place.supernet,
        "-m",
        "comment",
        "--comment",
        place.prefix,
        "-j",
        "ACCEPT",
    ]


def routing_is_set(place: Place) -> bool:
    """Whether our rule stands, and stands first (netavark's own chains come after it)."""
    rules = [
        line
        for line in run(["iptables", "-t", "nat", "-S", "POSTROUTING"]).splitlines()
        if line.startswith("-A")
    ]
    return (
        bool(rules)
        and f"--comment {place.prefix} " in rules[0].replace('"', "")
        and place.supernet in rules[0]
    )


def set_routing(place: Place) -> None:
    """Put the rule first; one that stands elsewhere or is of an earlier range goes."""
    clear_routing(place)
    run(["iptables", "-w", "-t", "nat", "-I", "POSTROUTING", "1", *_rule(place)])


def clear_routing(place: Place) -> int:
    """Remove every rule of this checkout; how many there were."""
    removed = 0
    for line in run(["iptables", "-w", "-t", "nat", "-S", "POSTROUTING"]).splitlines():
        words = line.replace('"', "").split()
        if words[:1] == ["-A"] and place.prefix in words:
            attempt(["iptables", "-w", "-t", "nat", "-D", *words[1:]])
            removed += 1
    return removed


def remove(place: Place, names: set[str] | None = None) -> list[str]:
    """Remove the networks called ``names`` (all of this checkout's by default)."""
    gone = sorted(existing(place) if names is None else names & existing(place))
    for name in gone:
        podman("network", "rm", "--force", name)
    return gone
