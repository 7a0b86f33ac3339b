"""The vips of this host on its first interface: set, and taken away once they are another host's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from xds_agent.node.datapath.network import Address, Interface, Network


def set_vips(network: Network, first: Interface, vips: Iterable[Address], *, record: Path) -> bool:
    """True if one had to be set. `record`: what was set by us, and what a successor may take away.

    Raises NetworkError, OSError.
    """
    wanted = tuple(vips)
    missing = [vip for vip in wanted if vip not in first.addresses]
    ours = set(record.read_text(encoding="ascii").split()) if record.exists() else set()
    ours |= {str(one) for one in missing}
    kept = ours & {str(one) for one in wanted}
    # Those of an agent that dies here are still known to its successor.
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("\n".join(sorted(ours)), encoding="ascii")
    for gone in sorted(ours - kept):
        network.remove_address(ip_address(gone))
    record.write_text("\n".join(sorted(kept)), encoding="ascii")
    for vip in missing:
        network.add_address(first.index, vip)
    return bool(missing)
