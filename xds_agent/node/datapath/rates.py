"""Rates as the inventory says them, and what holds for the whole host, as the maps take it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from xds_agent.datapath.limit import Rate
from xds_agent.datapath.services import Settings
from xds_agent.node.datapath.wanted import Address, Limits

_BURST_SHARE = 10
_LEAST_BURST_BYTES = 65_536
# A lease takes four packets and is renewed for hours. But a server or relay may broadcast its answers, and
# then each host of the link hears those to all others: a rack that boots is one source's burst. A lower rate
# with that burst would last longer than cells can count in units that suit 200,000 packets a second.
DHCP_OF_SOURCE, DHCP_OF_ALL = Rate(200, burst=50), Rate(1000, burst=200)


def settings_of(limits: Limits, sources: Iterable[Address], *, cookie_key: bytes) -> Settings:
    """What holds for the host: rates, and the addresses that packets to reals are sent from."""
    source4 = next((one for one in sources if isinstance(one, IPv4Address)), IPv4Address(0))
    source6 = next((one for one in sources if isinstance(one, IPv6Address)), IPv6Address(0))
    return Settings(
        monitor=limits.monitor,
        source_packets=rate(limits.source_packets),
        source_syns=rate(limits.source_syns),
        source_bytes=byte_rate(limits.source_bits),
        ssh_packets=rate(limits.ssh_packets),
        dhcp_packets=DHCP_OF_SOURCE,
        dhcp_total=DHCP_OF_ALL,
        tunnel_source4=source4,
        tunnel_source6=source6,
        nat_source4=source4,
        nat_source6=source6,
        cookies_above=rate(limits.cookies_above),
        cookie_key=cookie_key,
    )


def loosest(one: Settings, other: Settings) -> Settings:
    """As `other`, dropping nothing that either of them does not."""
    return replace(
        other,
        monitor=one.monitor or other.monitor,
        source_packets=_looser(one.source_packets, other.source_packets),
        source_syns=_looser(one.source_syns, other.source_syns),
        ssh_packets=_looser(one.ssh_packets, other.ssh_packets),
        source_bytes=_looser(one.source_bytes, other.source_bytes),
    )


def _looser(one: Rate | None, other: Rate | None) -> Rate | None:
    return None if one is None or other is None else max(one, other, key=lambda limit: limit.per_second)


def rate(per_second: int) -> Rate | None:
    """Packets; a tenth of a second at once. 0: no limit."""
    if not per_second:
        return None
    return Rate(per_second, burst=max(1, per_second // _BURST_SHARE))


def byte_rate(bits_per_second: int) -> Rate | None:
    """A quarter of a second at once: policed with less, one TCP flow gets a fraction of its rate. Never less
    than the largest packet there is, which the kernel or a card may have put together of many (GRO)."""
    if not bits_per_second:
        return None
    per_second = bits_per_second / 8
    return Rate(per_second, burst=max(_LEAST_BURST_BYTES, round(per_second / 4)))
