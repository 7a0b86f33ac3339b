"""The interfaces under the datapath as they were seen last, with this host's vips on the first of them.

Blocks for milliseconds: call it off the event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from xds_agent.node.datapath.network import Address, Interface, Network
from xds_agent.node.datapath.vips import set_vips


class Cards:
    """`names`: the interfaces, the first of which bears `vips`; `record`: which of them were set by us."""

    def __init__(self, names: Sequence[str], vips: Sequence[Address], *, record: Path) -> None:
        self.interfaces: tuple[Interface, ...] = ()
        self._names, self._vips, self._record = names, vips, record

    @property
    def mtu(self) -> int:
        return min(one.mtu for one in self.interfaces)

    @property
    def own(self) -> list[Address]:
        """Addresses that are no vip."""
        return [one for card in self.interfaces for one in card.addresses if one not in self._vips]

    @property
    def sources(self) -> tuple[Address, ...]:
        """The first interface's own address of each IP version; its vip where it has no other."""
        found: dict[int, Address] = {}
        addresses = self.interfaces[0].addresses
        for one in (*(one for one in addresses if one not in self._vips), *addresses):
            found.setdefault(one.version, one)
        return tuple(found.values())

    def look(self) -> bool:
        """True if addresses or MTU are others than they were. Raises NetworkError, OSError."""
        before = [(one.addresses, one.mtu) for one in self.interfaces]
        with Network() as network:
            self.interfaces = tuple(network.interface(name) for name in self._names)
            missing = set(self._vips) - set(self.interfaces[0].addresses)
            if (missing or not before) and self._set_vips(network):
                self.interfaces = tuple(network.interface(name) for name in self._names)
        return before != [(one.addresses, one.mtu) for one in self.interfaces]

    def returned(self, names: Collection[str]) -> tuple[Interface, ...]:
        """Those of `names`, which were gone; the others may be gone still. Raises NetworkError, OSError."""
        with Network() as network:
            found = {name: network.interface(name) for name in names}
            self.interfaces = tuple(found.get(one.name, one) for one in self.interfaces)
            if self.interfaces[0].name in found:
                self._set_vips(network)
        return tuple(found.values())

    def _set_vips(self, network: Network) -> bool:
        return set_vips(network, self.interfaces[0], self._vips, record=self._record)
