"""Services that listen on every address of a host beside one on the same port of its vip alone.

There the vip is the latter's, so a change of one may take connections from the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from xds_agent.compile import tcp, udp
from xds_agent.explain.resets import Reset, Where
from xds_agent.model import Service, Site
from xds_agent.model.tiers import Tier, tier_of

_Place = tuple[str, int]
"""Protocol and port."""


@dataclass(frozen=True, slots=True)
class _Listener:
    """A service that listens on every address of one host."""

    service: str
    protocol: str
    port: int
    host: str


@dataclass(frozen=True, slots=True)
class _Sharing:
    """Who listens where in one site, at places that somebody has on a vip."""

    everywhere: dict[_Listener, Tier]
    by_vip: dict[tuple[_Place, str], str]
    """(place, host) -> the service that has the vip there."""

    def winner(self, one: _Listener) -> str | None:
        return self.by_vip.get(((one.protocol, one.port), one.host))


def vip_words(old: Site | None, new: Site) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Sentences and the hosts they hold for: who loses a vip to whom, who never gets it, who has it again."""
    before, after = _both(old, new)
    said: dict[str, list[str]] = {}
    for one in after.everywhere:
        had = one in before.everywhere
        was, now = before.winner(one) if had else None, after.winner(one)
        place = f"vip:{one.port}"
        if now is not None and was is None:
            text = f"{one.service} does not get {place}: {now} listens there"
            if had:
                text = f"{one.service} loses {place} to {now}; its connections there end"
        elif was is not None and now is None:
            text = f"{one.service} has {place} again"
        else:
            continue
        said.setdefault(text, []).append(one.host)
    return ((text, tuple(sorted(hosts))) for text, hosts in said.items())


def vip_resets(old: Site | None, new: Site, proxies: Collection[str]) -> Iterator[Reset]:
    """What `vip_words` says end, on `proxies`: at most what the service has open on any address."""
    before, after = _both(old, new)
    for one, tier in before.everywhere.items():
        winner = after.winner(one)
        if one.host not in proxies or before.winner(one) or winner is None or one not in after.everywhere:
            continue
        counted, listener = _counted(one, tier, old)
        why = f"loses vip:{one.port} to {winner}"
        yield Reset(one.host, one.service, why, counted, listener, shared=True)


def _counted(one: _Listener, tier: Tier, site: Site | None) -> tuple[Where, str]:
    if tier.by_xdp:
        service = site.edge.service_by_name[one.service] if site is not None else None
        return "flows" if service is not None and service.forward == "nat" else "nowhere", ""
    if one.protocol == "udp":
        return "sessions", udp.listener_name(one.port)
    return "connections", tcp.listener_name(one.port)


def _both(old: Site | None, new: Site) -> tuple[_Sharing, _Sharing]:
    sites = (old, new)
    taken = [_by_vip(site) if site is not None else {} for site in sites]
    places = {place for one in taken for place, _ in one}
    before, after = (
        _Sharing(_everywhere(site, places) if site is not None and places else {}, by_vip)
        for site, by_vip in zip(sites, taken, strict=True)
    )
    return before, after


def _by_vip(site: Site) -> dict[tuple[_Place, str], str]:
    return {
        ((one.protocol, one.listen.port), host.name): one.name
        for one in site.edge.services
        if one.listen is not None and one.listen.port is not None and _on_vip_alone(site, one)
        for host in site.datapath_hosts
        if one.tenant in site.tenants_of(host)
    }


def _everywhere(site: Site, places: Collection[_Place]) -> dict[_Listener, Tier]:
    found = {}
    for one in site.edge.services:
        port = one.listen.port if one.listen is not None else None
        if port is None or (one.protocol, port) not in places or _on_vip_alone(site, one):
            continue
        tier = tier_of(site, one)
        for host in site.datapath_hosts:
            if one.tenant in site.tenants_of(host) and (tier.by_xdp or "ingress" in host.roles):
                found[_Listener(one.name, one.protocol, port, host.name)] = tier
    return found


def _on_vip_alone(site: Site, service: Service) -> bool:
    """Envoy listens on every address, whatever is asked."""
    listens = service.listen is not None and service.listen.address == "vip"
    return listens and service.has_own_port and tier_of(site, service).by_xdp
