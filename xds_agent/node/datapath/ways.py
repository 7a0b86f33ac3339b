"""The ways from this host to its reals: by which interface, over which next hop, with which MAC."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from xds_agent.node.datapath.network import Address, Hop, Network, NetworkError
from xds_agent.node.datapath.wanted import RealOf, Wanted, WantedService, apart


@dataclass(frozen=True)
class Ways:
    """Of every real of a revision; a real without a MAC gets nothing yet."""

    hops: Mapping[Address, Hop]
    macs: Mapping[Address, bytes]
    indices: frozenset[int]
    wanted: frozenset[Address]

    @classmethod
    def over(
        cls, network: Network, hops: Mapping[Address, Hop], indices: Collection[int], *,
        wanted: Collection[Address], known: Mapping[Address, bytes], wait: bool,
    ) -> Ways:  # fmt: skip
        """`known`: MACs that are not asked for again; `wait`: for neighbours nobody knows, up to a second."""
        steps = {one: (hop.gateway or one, hop.index) for one, hop in hops.items() if one not in known}
        macs = network.macs(steps.values(), wait=wait)
        found = {one: macs[step] for one, step in steps.items() if step in macs}
        kept = {one: known[one] for one in wanted if one in known}
        return cls(hops, kept | found, frozenset(indices), frozenset(wanted))

    @property
    def silent(self) -> frozenset[Address]:
        """Addresses whose next hop nobody knows the MAC of."""
        if len(self.macs) == len(self.wanted):
            return frozenset()
        return self.wanted - self.macs.keys()

    def or_macs(self, known: Mapping[Address, bytes]) -> Ways:
        """A neighbour that the kernel has forgotten is where it was until it is found elsewhere."""
        kept = {one: mac for one, mac in known.items() if one in self.wanted}
        return replace(self, macs={**kept, **self.macs})

    def check(self, wanted: Wanted) -> None:
        """Raises NetworkError for what could never work, whatever comes up later."""
        for words in self.astray(wanted).values():
            raise NetworkError(words)

    def astray(self, wanted: Wanted) -> dict[RealOf, str]:
        """Reals that cannot be reached by the datapath as the routes are now, with the reason."""
        # Almost always none: then only those are looked at that need more than the right interface.
        elsewhere = any(hop.index not in self.indices for hop in self.hops.values())
        return {
            (one.name, real.key): words
            for one in (wanted.services.values() if elsewhere else apart(wanted.services))
            for real in one.reals
            if (words := self._problem(one, real.key.address))
        }

    def _problem(self, one: WantedService, address: Address) -> str:
        hop = self.hops.get(address)
        if hop is None or one.forward == "echo":
            return ""
        if hop.index not in self.indices:
            return (
                f"service {one.name}: real {address} is reached over another interface than "
                f"those of the datapath; name that one alone in xdp_interfaces, or serve it by tier: l7"
            )
        if one.forward == "dsr" and hop.gateway is not None:
            return (
                f"service {one.name}: dsr needs real {address} on the link, and it is "
                f"behind {hop.gateway} (packets would loop until their TTL ends); use forward: nat"
            )
        return ""
