"""Random sites: every cloud with the same hosts, so that what differs is the cloud's."""

from __future__ import annotations

import ipaddress
from typing import Any

import yaml
from hypothesis import strategies as st

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO a@b"
ROLES = ("ingress", "egress", "control", "observability", "workload")
_PLACES = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}


@st.composite
def _rule(draw: st.DrawFn, number: int) -> dict[str, Any]:
    protocol = draw(st.sampled_from(("tcp", "udp", "icmp")))
    ports = []
    if protocol != "icmp":
        # 22 stays out: a site that opens it to everybody is refused.
        first = draw(st.integers(23, 65000))
        ports = [draw(st.sampled_from((str(first), f"{first}-{min(65535, first + 500)}")))]
    ranges = ("internet", "192.0.2.0/24", "10.0.0.0/8", "198.51.100.7/32", "2001:db8::/32", *ROLES)
    return {
        "name": f"rule{number}",
        "sources": draw(st.lists(st.sampled_from(ranges), min_size=1, max_size=4, unique=True)),
        "targets": draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=3, unique=True)),
        "protocol": protocol,
        "ports": ports,
    }


@st.composite
def sites(draw: st.DrawFn) -> str:
    """The text of a site file called 'random'."""
    roles = draw(st.lists(st.sampled_from(ROLES), unique=True))
    pools = {
        f"p{number}": {"role": role, "count": draw(st.integers(1, 3))}
        for number, role in enumerate(["control", *roles])
    }
    prefix = draw(st.integers(16, 22))
    zones = draw(st.integers(1, 3))
    front = draw(st.booleans())
    clouds: dict[str, Any] = {}
    for number, (cloud, region) in enumerate(_PLACES.items()):
        network = str(ipaddress.ip_network(f"10.{number + 1}.0.0/{prefix}"))
        said = {"network": network, "zones": zones, "load_balancer": front, "hosts": pools}
        clouds[cloud] = {"regions": {region: said}}
    clouds["gcp"]["project"] = "p"
    # Tunnels end at ingress hosts: without any, the site is refused.
    kinds = ("none", "wireguard") if "ingress" in roles else ("none",)
    sources = draw(st.sampled_from(([], ["198.51.100.0/24"], ["198.51.100.0/24", "198.51.0.0/16"])))
    # Nobody logs in through hosts that are not there, or that nobody reaches: such a site is refused.
    jumps = [None, *(role for role in ("ingress", "egress") if role in roles and sources)]
    return yaml.safe_dump(
        {
            "name": "random",
            "ssh": {
                "authorized_keys": [KEY],
                "sources": sources,
                "jump": draw(st.sampled_from(jumps)),
            },
            "clouds": clouds,
            "reach": [draw(_rule(number)) for number in range(draw(st.integers(0, 3)))],
            "interconnect": {"type": draw(st.sampled_from(kinds))},
        },
        sort_keys=False,
    )
