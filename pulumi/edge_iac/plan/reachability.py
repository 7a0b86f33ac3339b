"""Who may reach what: one matrix for all clouds, from what the edge needs and what the site adds."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edge_iac.plan.model import Networks, Probes, Protocol, Roles, Rule, Source, Span, Tier
from edge_iac.site import Role, Site
from edge_iac.site.ports import DATABASE_PORT
from edge_iac.site.ports import TUNNEL_PORT as MESH_HEALTH_PORT
from edge_iac.site.values import INTERNET, span_of
from xds_agent.model.ports import SSH_PORT

EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
TUNNEL_PORTS = (51820, 51883)
NODE_ROLES: tuple[Role, ...] = ("ingress", "egress")
TIER_OF: Mapping[Role, Tier] = {
    "ingress": "outer",
    "egress": "outer",
    "control": "inner",
    "observability": "inner",
    "workload": "inner",
}


def span_text(span: Span) -> str:
    """(443, 443) -> '443', (9000, 9010) -> '9000-9010': as Google Cloud and Azure write ports."""
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


class Elsewhere:
    """The other regions of the site: their ranges stand for roles, which no cloud knows of another."""

    def __init__(self, ranges: Mapping[Role, tuple[str, ...]]) -> None:
        self._ranges = ranges

    def of(self, roles: Iterable[Role]) -> tuple[str, ...]:
        """Ranges of other regions in which hosts of these roles stand, as few as it goes."""
        return _without_covered(sorted({one for role in roles for one in self._ranges.get(role, ())}))


def rules_of(
    site: Site,
    *,
    roles: Sequence[Role],
    elsewhere: Elsewhere,
    ipv6: bool,
    front: bool,
    transit: str | None = None,
) -> tuple[Rule, ...]:
    """The rules of a region whose hosts have these ``roles``.

    ``transit``: the region's network, where its packets to other regions go through its ingress hosts.
    """
    matrix = _Matrix(roles=roles, elsewhere=elsewhere, ipv6=ipv6)
    found = [*_own(site, matrix, front=front), *_transit(matrix, transit), *_added(site, matrix)]
    return tuple(found)


class _Matrix:
    def __init__(self, *, roles: Sequence[Role], elsewhere: Elsewhere, ipv6: bool) -> None:
        self.roles = roles
        self.elsewhere = elsewhere
        self.ipv6 = ipv6

    def allow(
        self,
        name: str,
        *,
        sources: Iterable[str],
        targets: Iterable[Role],
        ports: Iterable[int | Span] = (),
        protocol: Protocol = "tcp",
        why: str,
    ) -> Iterator[Rule]:
        """Rules from ``sources`` (internet, roles, ranges) to each target that the region has."""
        spans = tuple(port if isinstance(port, tuple) else (port, port) for port in ports)
        given = tuple(sources)
        for target in targets:
            if target not in self.roles:
                continue
            for suffix, source in self._sources(given):
                yield Rule(
                    name=f"{name}-{target}{suffix}",
                    target=target,
                    source=source,
                    protocol=protocol,
                    ports=spans,
                    why=why,
                )

    def _sources(self, given: tuple[str, ...]) -> Iterator[tuple[str, Source]]:
        named: list[Role] = [role for role in TIER_OF if role in given]
        here: tuple[Role, ...] = tuple(role for role in named if role in self.roles)
        if here:
            yield "-roles", Roles(here)
        if far := self.elsewhere.of(named):
            yield "-far", Networks(4, far)
        for family in (4, 6):
            ranges = [EVERYWHERE[family]] if INTERNET in given else []
            ranges += [one for one in given if "/" in one and ipaddress.ip_network(one).version == family]
            if ranges and (family == 4 or self.ipv6):
                yield f"-v{family}", Networks(4 if family == 4 else 6, _without_covered(ranges))


def _without_covered(ranges: list[str]) -> tuple[str, ...]:
    """Ranges of one family collapsed: Azure refuses overlaps within a rule."""
    fours = [ipaddress.IPv4Network(one) for one in ranges if ":" not in one]
    sixes = [ipaddress.IPv6Network(one) for one in ranges if ":" in one]
    return tuple(map(str, (*ipaddress.collapse_addresses(fours), *ipaddress.collapse_addresses(sixes))))


def _own(site: Site, matrix: _Matrix, *, front: bool) -> Iterator[Rule]:
    """What the edge needs to work at all."""
    ports = site.ports
    clients = (ports.http, ports.https, ports.grpc)
    yield from matrix.allow(
        "clients", sources=[INTERNET], targets=["ingress"], ports=clients, why="clients of the edge"
    )
    yield from matrix.allow(
        "icmp", sources=[INTERNET], targets=NODE_ROLES, protocol="icmp", why="path MTU and echo"
    )
    if site.ssh.sources:
        yield from matrix.allow(
            "ssh", sources=site.ssh.sources, targets=TIER_OF, ports=[SSH_PORT], why="people who log in"
        )
    if site.ssh.jump:
        inner: list[Role] = [role for role, tier in TIER_OF.items() if tier == "inner"]
        yield from matrix.allow(
            "jump", sources=[site.ssh.jump], targets=inner, ports=[SSH_PORT], why="logins through jump hosts"
        )
    yield from matrix.allow(
        "xds", sources=NODE_ROLES, targets=["control"], ports=[ports.xds], why="node agents to control"
    )
    yield from matrix.allow(
        "peers",
        sources=["control"],
        targets=["control"],
        ports=[ports.xds, ports.api, DATABASE_PORT],
        why="control hosts among themselves",
    )
    yield from matrix.allow(
        "scrape",
        sources=["observability"],
        targets=NODE_ROLES,
        ports=[ports.agent_metrics],
        why="metrics of node agents",
    )
    yield from matrix.allow(
        "scrape", sources=["observability"], targets=["control"], ports=[ports.api], why="metrics of control"
    )
    if front and "ingress" in matrix.roles:
        port = ports.agent_metrics
        yield Rule("probes-ingress", "ingress", Probes(), "tcp", ((port, port),), "health of the balancer")


def _transit(matrix: _Matrix, network: str | None) -> Iterator[Rule]:
    """Tunnels between regions, and what goes through them: to its cloud, a gateway is its packets' target."""
    if network is None:
        return
    yield from matrix.allow(
        "wireguard",
        sources=[INTERNET],
        targets=["ingress"],
        ports=[TUNNEL_PORTS],
        protocol="udp",
        why="tunnels between regions; answers nobody without a key",
    )
    ways: tuple[Protocol, ...] = ("tcp", "udp")
    for protocol in ways:
        yield from matrix.allow(
            f"transit-{protocol}",
            sources=[network],
            targets=["ingress"],
            ports=[(1, 65535)],
            protocol=protocol,
            why="packets of this region to other regions",
        )
    if "ingress" in matrix.roles:
        port = MESH_HEALTH_PORT
        yield Rule("probes-mesh", "ingress", Probes(), "tcp", ((port, port),), "health of gateways")


def _added(site: Site, matrix: _Matrix) -> Iterator[Rule]:
    for rule in site.reach:
        yield from matrix.allow(
            rule.name,
            sources=rule.sources,
            targets=rule.targets,
            ports=[span_of(span) for span in rule.ports],
            protocol=rule.protocol,
            why=f"reach {rule.name} of the site file",
        )
