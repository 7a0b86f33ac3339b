"""Names and addresses of this checkout's lab, derived from where the checkout stands.

``group_vars/lab/place.yml`` of the lab's inventory computes the same in Jinja (a test compares the two), so
that ``ansible-playbook`` needs no environment variable and two checkouts never share a name or a subnet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
# First octet-pair choice: 10.128 to 10.223, away from what podman (10.88), clouds and offices mostly use.
FIRST_OCTET, OCTETS = 128, 96


@dataclass(frozen=True)
class Network:
    """One podman network: a cloud's, or the one of the control host."""

    name: str
    subnet: str
    gateway: str


@dataclass(frozen=True)
class HostSpec:
    """One host of the lab as the inventory describes it."""

    name: str
    container: str
    network: str
    address: str
    groups: tuple[str, ...]
    cloud: str | None = None


@dataclass(frozen=True)
class Place:
    """Everything that is named or numbered after the checkout."""

    root: Path
    name: str
    prefix: str
    octet: int
    networks: tuple[Network, ...]
    hosts: tuple[HostSpec, ...]
    state: Path
    from_clouds: bool = False
    """Whether simulated clouds made the hosts and their networks."""
    balancers: tuple[HostSpec, ...] = ()
    """Public addresses of the clouds' load balancers, which are no hosts."""

    @property
    def supernet(self) -> str:
        """The range all networks of this lab lie in; packets inside it are routed, not masqueraded."""
        return f"10.{self.octet}.0.0/16"

    def host(self, name: str) -> HostSpec:
        """The host called ``name``; LabError names the ones there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"no host {name} in the lab", f"hosts are: {', '.join(h.name for h in self.hosts)}")

    @property
    def apart(self) -> Path:
        """There while the clouds reach each other by tunnels only; the inventory looks for it too."""
        return self.state / "interconnect"

    def in_group(self, group: str) -> tuple[HostSpec, ...]:
        return tuple(host for host in self.hosts if group in host.groups)


def digest_of(root: Path) -> str:
    """Six hexadecimal digits of the checkout's path."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:6]


def octet_of(root: Path) -> int:
    """The second octet of the lab's addresses: ``.lab/octet`` if a clash was evaded, else from the path."""
    chosen = root / ".lab" / "octet"
    if chosen.exists():
        return int(chosen.read_text().strip())
    return FIRST_OCTET + int(digest_of(root), 16) % OCTETS


def load(inventory: Path, root: Path = ROOT) -> Place:
    """Read ``hosts.yml`` (``lab_network``, ``lab_number`` of each host) and ``group_vars/lab/place.yml``."""
    facts = yaml.safe_load((inventory.parent / "group_vars" / "lab" / "place.yml").read_text())
    lab_name: str = facts["lab_name"]
    numbers: dict[str, int] = facts["lab_networks"]
    octet, prefix = octet_of(root), f"mp{digest_of(root)}-{lab_name}"
    found: dict[str, dict[str, Any]] = {}
    for group, body in yaml.safe_load(inventory.read_text()).items():
        _walk(group, body or {}, {}, (), found)
    hosts = tuple(_host(name, facts, octet, prefix, numbers) for name, facts in found.items())
    used = {host.network for host in hosts}
    networks = tuple(
        Network(f"{prefix}-{name}", f"10.{octet}.{number}.0/24", f"10.{octet}.{number}.1")
        for name, number in numbers.items()
        if f"{prefix}-{name}" in used
    )
    state = root / ".lab" if lab_name == "lab" else root / ".lab" / lab_name
    return Place(root, lab_name, prefix, octet, networks, hosts, state)


def _walk(
    group: str,
    body: dict[str, Any],
    inherited: dict[str, Any],
    above: tuple[str, ...],
    found: dict[str, dict[str, Any]],
) -> None:
    variables = inherited | (body.get("vars") or {})
    groups = (*above, group)
    for name, own in (body.get("hosts") or {}).items():
        known = found.setdefault(name, {"groups": ()})
        known["groups"] += tuple(g for g in groups if g not in known["groups"])
        known.update({key: value for key, value in (variables | (own or {})).items() if key != "groups"})
    for child, inner in (body.get("children") or {}).items():
        _walk(child, inner or {}, variables, groups, found)


def _host(name: str, facts: dict[str, Any], octet: int, prefix: str, numbers: dict[str, int]) -> HostSpec:
    try:
        network, number = facts["lab_network"], facts["lab_number"]
        subnet = numbers[network]
    except KeyError as missing:
        raise LabError(
            f"host {name} has no {missing.args[0]}", "give it lab_network and lab_number in hosts.yml"
        ) from None
    return HostSpec(
        name=name,
        container=f"{prefix}-{name}",
        network=f"{prefix}-{network}",
        address=f"10.{octet}.{subnet}.{number}",
        groups=facts["groups"],
        cloud=facts.get("cloud"),
    )
