"""What a change of the packet filter may cost whoever works on the hosts: said beside the change itself."""

from __future__ import annotations

from collections.abc import Iterator

from xds_agent.explain.said import Said, listed, plural
from xds_agent.model import Site
from xds_agent.model.protection import Protection

_NAMED = 4


def protection_words(old: Site | None, new: Site) -> Iterator[Said]:
    """Who is shut out now, who is exempt no longer, and what of SSH is left."""
    before = (old.edge.protection if old else None) or Protection()
    after = new.edge.protection or Protection()
    hosts = len(new.datapath_hosts)
    if not hosts:
        return
    if shut := _gone(after.deny, before.deny):
        counted = " (monitor: counted only)" if after.monitor else ""
        yield Said(
            f"from {shut} nothing but SSH (port 22) reaches {plural(hosts, 'host')}{counted}: operators and "
            "monitoring that come from there need another way",
            "protection.deny",
        )
    if freed := _gone((*before.allow, *before.operators), (*after.allow, *after.operators)):
        yield Said(
            f"{freed} is exempt no longer: limits hold for who comes from there, and so do denials",
            "protection.operators",
        )
    if old is not None and after.ssh_packets_per_second < before.ssh_packets_per_second:
        yield Said(
            f"SSH gets {after.ssh_packets_per_second} packets a second from one source (was "
            f"{before.ssh_packets_per_second}): sessions and Ansible's copies beyond it stall",
            "protection.ssh_packets_per_second",
        )


def _gone(there: tuple[str, ...], missing_in: tuple[str, ...]) -> str:
    known = set(missing_in)
    return listed((one for one in dict.fromkeys(there) if one not in known), limit=_NAMED)
