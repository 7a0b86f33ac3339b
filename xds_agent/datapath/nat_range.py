"""Whether NAT's ports may be used on this host. Pure."""

from __future__ import annotations

from pathlib import Path

LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def local_ports(text: str) -> range:
    """What the kernel gives its own connections, from the text of `LOCAL_PORTS`."""
    first, last = (int(word) for word in text.split())
    return range(first, last + 1)


def snat_problem(first: int, count: int, local: range) -> str | None:
    """Why not, with the remedy: a port of the kernel's own connections cannot stand for a flow too."""
    ours = range(first, first + count)
    if ours.start >= local.stop or local.start >= ours.stop:
        return None
    return (
        f"NAT's ports {ours.start} to {ours.stop - 1} overlap net.ipv4.ip_local_port_range "
        f"({local.start} to {local.stop - 1}), and one port would stand for two connections: "
        f"let the kernel's begin at {ours.stop} (host_sysctl)"
    )
