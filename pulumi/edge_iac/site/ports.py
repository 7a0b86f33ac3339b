"""Ports that hosts of a role listen on by themselves: each is one process's alone."""

from __future__ import annotations

from collections.abc import Iterator

from edge_iac.site.model import Role, Site
from edge_iac.site.places import Add, regions_of
from xds_agent.model.ports import SSH_PORT

DATABASE_PORT = 5432
TUNNEL_PORT = 51820
"""Over TCP a gateway says there which networks it reaches."""


def check_ports(site: Site, add: Add) -> None:
    """Calls ``add`` for two of the edge's own that would listen on one port of one host."""
    roles: set[Role] = {pool.role for _, _, one, _ in regions_of(site) for pool in one.hosts.values()}
    found: list[Role] = sorted(roles)
    for role in found:
        taken: dict[int, str] = {}
        for port, what, key in _of_role(site, role):
            if port in taken and key:
                fix = "give each a port of its own"
                add(f"ports.{key}", f"{port} is {taken[port]} too, on {role} hosts", fix)
            taken.setdefault(port, what)


def _of_role(site: Site, role: Role) -> Iterator[tuple[int, str, str]]:
    """(port, what listens there, the key that says so; empty where nothing changes it)."""
    ports = site.ports
    yield SSH_PORT, "SSH", ""
    if role == "control":
        yield DATABASE_PORT, "the database of control", ""
        keys: tuple[str, ...] = ("api", "xds")
    elif role == "ingress":
        if site.interconnect.type == "wireguard":
            yield TUNNEL_PORT, "the health of tunnels", ""
        keys = ("http", "https", "grpc", "agent_metrics")
    else:
        keys = ("agent_metrics",) if role == "egress" else ()
    # What the site file says comes last, so that it is named.
    for key in sorted(keys, key=lambda one: one in ports.model_fields_set):
        yield getattr(ports, key), f"ports.{key}", key
