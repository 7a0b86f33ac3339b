"""Which requests tell whether a change serves: from the two models and snapshots of one view. Pure.

What a rule, service, domain or certificate of the inventory is asked about follows from what differs; that
the view really takes the request, and what it should meet, `explain` reads out of the compiled resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xds_agent.explain.chain_match import listener_on
from xds_agent.explain.request import explain
from xds_agent.model import Domain, Route, Service, Site
from xds_agent.rollout.canary import sample
from xds_agent.rollout.canary.question import Question
from xds_agent.rollout.canary.sample import Sample, Unaskable
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, SECRET, Snapshot

# Requests through one canary, and how many candidates are looked at to find them.
MOST = 16
_LOOKED_AT = 4 * MOST
_SITE_CA = "site-ca"
# What differs, most telling first.
_RULE, _SERVICE, _BACKENDS, _DOMAIN, _LISTENER = range(5)


@dataclass(frozen=True)
class Chosen:
    """The requests, and words for what cannot be asked or was left out for their number."""

    questions: tuple[Question, ...] = ()
    unasked: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    rank: int
    domain: str
    line: str
    grpc: bool
    asked: Sample

    @property
    def url(self) -> str:
        return f"{'grpc' if self.grpc else 'https'}://{sample.host_of(self.domain)}{self.asked.path}"


@dataclass
class _Differences:
    """What the change touches, by name."""

    old: Site
    new: Site
    diff: Diff
    rules: set[tuple[str, str]] = field(init=False)
    services: set[str] = field(init=False)
    moved: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.rules = {(domain, _text(rule)) for rule in self.old.edge.routes for domain in rule.domains}
        before = self.old.edge.service_by_name
        self.services = {one.name for one in self.new.edge.services if before.get(one.name) != one}
        self.moved = {*self.diff.of(CLUSTER).updated, *self.diff.of(ENDPOINTS).updated}

    def of_rule(self, rule: Route, domain: str) -> int | None:
        if (domain, _text(rule)) not in self.rules:
            return _RULE
        names = {name for name, _ in rule.destinations}
        return self._first(self.of_services(names), self.of_domain(domain))

    def of_services(self, names: Iterable[str]) -> int | None:
        mine = set(names)
        if mine & self.services:
            return _SERVICE
        return _BACKENDS if mine & self.moved else None

    def of_domain(self, name: str) -> int | None:
        domain = self.new.edge.domain_by_name.get(name)
        if domain is None:
            return None
        if self.old.edge.domain_by_name.get(name) != domain:
            return _DOMAIN
        secrets = set(self.diff.of(SECRET).updated)
        if secrets & {f"certificate/{domain.certificate}", f"trust/{domain.client_ca}"}:
            return _DOMAIN
        return _LISTENER if self.diff.of(LISTENER).updated else None

    @staticmethod
    def _first(*ranks: int | None) -> int | None:
        return min((rank for rank in ranks if rank is not None), default=None)


def choose(old: Site, new: Site, before: Snapshot, after: Snapshot, *, most: int = MOST) -> Chosen:
    """At most `most` requests for a proxy that goes from `before` to `after`, the most telling first."""
    differences = _Differences(old, new, Diff.between(before, after))
    if not differences.diff or not after.of_type(LISTENER):
        return Chosen()
    unasked: list[str] = []
    candidates = _sorted(_candidates(differences, unasked))
    found = dict.fromkeys(_streams(differences, after))
    looked_at = 0
    for candidate in candidates:
        if len(found) >= most or looked_at >= _LOOKED_AT:
            break
        looked_at += 1
        question = _question(candidate, new, after)
        if question is not None:
            found.setdefault(question)
    questions = tuple(found)[:most]
    left = len(candidates) - looked_at
    if left > 0:
        unasked.append(f"{left} more requests, beyond the {most} that one canary is asked")
    unasked += [*_certificates(questions), *_datagrams(differences, after)]
    return Chosen(questions, tuple(unasked))


def _candidates(differences: _Differences, unasked: list[str]) -> Iterator[_Candidate]:
    new = differences.new
    for index, rule in enumerate(new.edge.routes):
        for domain in rule.domains:
            rank = differences.of_rule(rule, domain)
            if rank is not None:
                yield from _of_rule(new, rule, domain, rank, f"routes[{rule.name or index}]", unasked)
    kept = {(domain, _text(rule)) for rule in new.edge.routes for domain in rule.domains}
    for rule in differences.old.edge.routes:
        for domain in rule.domains:
            # What a rule took that is gone, another one takes now.
            if (domain, _text(rule)) not in kept and domain in new.edge.domain_by_name:
                yield from _of_rule(new, rule, domain, _RULE, f"domains[{domain}]", [])
    for service in new.edge.services:
        if not service.is_http:
            continue
        of_service = differences.of_services([service.name])
        for name in service.domains:
            rank = _Differences._first(of_service, differences.of_domain(name))
            if rank is not None:
                grpc = _speaks_grpc(new, service)
                line = f"services[{service.name}]"
                yield _Candidate(rank, name, line, grpc, sample.of_service(grpc=grpc))


def _of_rule(
    site: Site, rule: Route, domain: str, rank: int, line: str, unasked: list[str]
) -> Iterator[_Candidate]:
    first = next((site.edge.service_by_name.get(name) for name, _ in rule.destinations), None)
    grpc = first is not None and _speaks_grpc(site, first)
    try:
        yield _Candidate(rank, domain, line, grpc, sample.of_rule(rule, grpc=grpc))
    except Unaskable as error:
        unasked.append(f"{line} of {domain}: it takes {error}")


def _sorted(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """By what they tell, then one of each domain before the second of any."""
    ordered = sorted(candidates, key=lambda one: (one.rank, one.domain, one.asked, one.line))
    seen: dict[tuple[int, str], int] = {}
    placed = []
    # Of several with one request the first stays.
    for one in reversed({(one.url, one.asked): one for one in reversed(ordered)}.values()):
        turn = seen[one.rank, one.domain] = seen.get((one.rank, one.domain), 0) + 1
        placed.append(((one.rank, turn, one.domain), one))
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _question(candidate: _Candidate, site: Site, after: Snapshot) -> Question | None:
    """As the compiled resources take it; None where this view serves no such thing."""
    domain = site.edge.domain_by_name[candidate.domain]
    own = _own_certificate(domain)
    [met] = explain(
        site, {"": after}, candidate.url, host="", headers=dict(candidate.asked.headers),
        method=candidate.asked.method, client_certificate=own,
    )  # fmt: skip
    if met.verdict in ("nothing", "not judged"):
        return None
    wanted = met.verdict == "refused" and domain.client_auth == "required"
    if met.verdict == "refused" and not wanted:
        return None
    if met.verdict == "answered" and not any(step.kind == "route" for step in met.steps):
        # No host, no route: a name this view does not serve.
        return None
    if met.status == 421:
        return None
    port = site.edge.ports.grpc if candidate.grpc else site.edge.ports.https
    return Question(
        scheme="grpc" if candidate.grpc else "https",
        host=sample.host_of(candidate.domain),
        port=port,
        address=_reached_at(after, port),
        path=candidate.asked.path,
        method=candidate.asked.method,
        headers=candidate.asked.headers,
        own_certificate=own,
        expected=met.status if met.verdict in ("answered", "redirected") else None,
        refused=wanted,
        line=candidate.line,
    )


def _streams(differences: _Differences, after: Snapshot) -> Iterator[Question]:
    """TCP services that differ: whether a connection is taken and kept."""
    for service in differences.new.edge.services:
        port = differences.new.edge.listen_port(service)
        if service.protocol != "tcp" or port is None or service.listen is None or service.listen.sni:
            continue
        if differences.of_services([service.name]) is None:
            continue
        if listener_on(after.of_type(LISTENER), port, udp=False) is not None:
            line = f"services[{service.name}]"
            yield Question("tcp", "", port, address=_reached_at(after, port), line=line)


def _datagrams(differences: _Differences, after: Snapshot) -> Iterator[str]:
    """UDP services that differ: a datagram that means nothing to them is answered by nobody."""
    for service in differences.new.edge.services:
        port = differences.new.edge.listen_port(service)
        if service.protocol != "udp" or port is None or differences.of_services([service.name]) is None:
            continue
        if listener_on(after.of_type(LISTENER), port, udp=True) is not None:
            yield f"services[{service.name}]: of udp no datagram is known that is harmless and answered"


def _reached_at(after: Snapshot, port: int) -> str:
    listener = listener_on(after.of_type(LISTENER), port, udp=False)
    if listener is None:
        return "127.0.0.1"
    socket = listener.address.socket_address
    if socket.address in ("", "0.0.0.0"):
        return "127.0.0.1"
    if socket.address == "::":
        return "127.0.0.1" if socket.ipv4_compat else "::1"
    return str(socket.address)


def _own_certificate(domain: Domain) -> bool:
    """The host's own certificate opens what asks for any of the site's CA."""
    return domain.client_auth != "none" and domain.client_ca == _SITE_CA and not domain.client_names


def _certificates(questions: Iterable[Question]) -> list[str]:
    """Strict names of foreign authorities can only be seen to refuse."""
    names = sorted({one.host for one in questions if one.refused})
    return [f"{name} beyond its handshake: it wants a client certificate of its partners" for name in names]


def _speaks_grpc(site: Site, service: Service) -> bool:
    return site.edge.listen_port(service) == site.edge.ports.grpc


def _text(rule: Route) -> str:
    return rule.model_dump_json()
