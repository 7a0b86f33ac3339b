"""Words for what changes about services: their backends, their domains, and every field of theirs."""

from __future__ import annotations

from collections.abc import Iterator

from xds_agent.explain.fields import compact, field_changes, in_words
from xds_agent.explain.said import Said, listed, plural
from xds_agent.model import Health, ResolvedEndpoint, Service, Site
from xds_agent.model.quantities import format_duration
from xds_agent.model.tiers import tier_of

# Told by the functions below, in words of their own.
_OWN_WORDS = frozenset({"name", "tenant", "protocol", "domains", "endpoints", "timeout", "health"})
_FOR_PEOPLE = frozenset({"description"})


def service_words(old: Site | None, new: Site) -> Iterator[Said]:
    """Services that come, go and change, in the order of the inventory; those that go first."""
    before = old.edge.service_by_name if old else {}
    after = new.edge.service_by_name
    # Endpoints by group follow the hosts; where neither moves, ten thousand services need no second look.
    same_hosts = old is not None and old.hosts == new.hosts
    if old is not None:
        for name, service in before.items():
            if name not in after:
                text = f"service {name} is removed (was {_sketch(old, service)})"
                yield _said(service, "", text)
    for name, service in after.items():
        if old is None or name not in before:
            yield _said(service, "", f"new service {name}: {_sketch(new, service)}")
        elif not (same_hosts and _same(before[name], service)):
            yield from _changed(old, before[name], new, service)
    if old is not None:
        yield from _default_services(old, new)
        kept = [
            [s.name for s in site.edge.services if s.name in before and s.name in after]
            for site in (old, new)
        ]
        if kept[0] != kept[1]:
            yield Said(
                "services are listed in another order; nothing else follows from it",
                "services",
                reaches_proxies=False,
            )


def _said(service: Service, field: str, text: str, *, also: str = "", reaches_proxies: bool = True) -> Said:
    return Said(
        text=text,
        path=f"services[{service.name}]" + (f".{field}" if field else ""),
        tenants=frozenset({service.tenant, also or service.tenant}),
        services=frozenset({service.name}) if reaches_proxies else frozenset(),
        reaches_proxies=reaches_proxies,
    )


def _sketch(site: Site, service: Service) -> str:
    """'http on shop.example.com, 4 endpoints in aws, gcp and azure'."""
    port = site.edge.listen_port(service)
    where = listed(service.domains, limit=4) if service.is_http else _listens(service, port)
    endpoints = site.endpoints_of(service)
    clouds = list(dict.fromkeys(one.cloud for one in endpoints if one.cloud))
    backends = plural(len(endpoints), "endpoint") + (f" in {listed(clouds)}" if clouds else "")
    by = "" if service.is_http else f", served by {tier_of(site, service).name}"
    return f"{service.protocol}{f' on {where}' if where else ''}, {backends}{by}"


def _listens(service: Service, port: int | None) -> str:
    vip = "the vip" if service.listen is not None and service.listen.address == "vip" else ""
    return " ".join(part for part in (vip, f"port {port}" if port else "") if part)


def _tiers(old: Site, was: Service, new: Site, now: Service) -> Iterator[Said]:
    """Another tier takes over: connections do not move with it."""
    before, after = tier_of(old, was), tier_of(new, now)
    if before.kind == after.kind:
        return
    text = (
        f"{now.name} moves from {before.name} to {after.name} ({after.why}): its open connections are reset"
    )
    yield _said(now, after.field, text)


def _same(was: Service, now: Service) -> bool:
    # Whether a timeout was written counts for gRPC, and equality of models does not see it.
    return was == now and was.request_timeout == now.request_timeout


def _changed(old: Site, was: Service, new: Site, now: Service) -> Iterator[Said]:
    if not _same(was, now):
        yield from _own_words(was, now)
        for field, words in field_changes(was, now, skip=_OWN_WORDS):
            people = field in _FOR_PEOPLE
            yield _said(now, field, f"{now.name}: {field} {words}", reaches_proxies=not people)
    yield from _tiers(old, was, new, now)
    found = list(_endpoints(old, was, new, now))
    yield from found
    if not found and was.endpoints != now.endpoints:
        text = f"{now.name}: endpoints are written differently, the backends stay the same"
        yield _said(now, "endpoints", text, reaches_proxies=False)


def _own_words(was: Service, now: Service) -> Iterator[Said]:
    name = now.name
    if was.tenant != now.tenant:
        text = f"{name} moves from tenant {was.tenant} to tenant {now.tenant}"
        yield _said(now, "tenant", text, also=was.tenant)
    if was.protocol != now.protocol:
        yield _said(now, "protocol", f"{name} now speaks {now.protocol} (was {was.protocol})")
    limits = [format_duration(one.request_timeout if one.is_http else one.timeout) for one in (was, now)]
    if limits[0] != limits[1]:
        yield _said(now, "timeout", f"{name}: timeout {_limit(limits[0])} -> {_limit(limits[1])}")
    elif was.timeout != now.timeout:
        words = f"{format_duration(was.timeout)} -> {format_duration(now.timeout)}"
        yield _said(
            now, "timeout", f"{name}: timeout {words}, no effect on {now.protocol}", reaches_proxies=False
        )
    if was.health is None and now.health is not None:
        yield _said(now, "health", f"{name} is now checked for health: {_check(now.health)}")
    elif was.health is not None and now.health is None:
        yield _said(now, "health", f"{name} is no longer checked for health")
    elif was.health is not None and now.health is not None:
        for field, words in field_changes(was.health, now.health, prefix="health."):
            yield _said(now, field, f"{name}: {field} {words}")


def _check(health: Health) -> str:
    """'http /healthz every 1s', and what else is not as usual."""
    what = {"http": f"http {health.path}", "grpc": f"grpc {health.grpc_service}".strip()}.get(
        health.type, "tcp"
    )
    more = compact(health, skip=("type", "path", "grpc_service", "interval"))
    rest = "" if more == "defaults" else f", {more}"
    return f"{what} every {format_duration(health.interval)}{rest}"


def _limit(duration: str) -> str:
    return "no limit" if duration == "0s" else duration


def _endpoints(old: Site, was: Service, new: Site, now: Service) -> Iterator[Said]:
    before, after = old.endpoints_of(was), new.endpoints_of(now)
    if before == after:
        return
    left, right = _by_address(before), _by_address(after)
    gone = [left[key] for key in left if key not in right]
    come = [right[key] for key in right if key not in left]
    found = False
    for verb, endpoints in (("loses", gone), ("gains", come)):
        for text in _together(endpoints):
            found = True
            yield _said(now, "endpoints", f"{now.name} {verb} {text}")
    for key, one in right.items():
        other = left.get(key)
        if other is None or other == one:
            continue
        for words in _moved(other, one):
            found = True
            yield _said(now, "endpoints", f"{now.name}: endpoint {_address(one)} {words}")
    if not found:
        text = f"{now.name}: the same endpoints, listed in another order or more than once"
        yield _said(now, "endpoints", text)


def _by_address(endpoints: tuple[ResolvedEndpoint, ...]) -> dict[tuple[str, int], ResolvedEndpoint]:
    return {(one.address, one.port): one for one in endpoints}


def _together(endpoints: list[ResolvedEndpoint]) -> Iterator[str]:
    """'endpoint 10.1.0.12:8080 in gcp europe-west1', those of one place in one phrase."""
    by_place: dict[str, list[ResolvedEndpoint]] = {}
    for one in endpoints:
        by_place.setdefault(_place(one), []).append(one)
    for place, group in by_place.items():
        noun = "endpoint" if len(group) == 1 else f"{len(group)} endpoints"
        yield f"{noun} {listed(_address(one) for one in group)}{f' in {place}' if place else ''}"


def _address(one: ResolvedEndpoint) -> str:
    return f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"


def _place(one: ResolvedEndpoint) -> str:
    return " ".join(part for part in (one.cloud, one.region, one.zone) if part)


def _moved(was: ResolvedEndpoint, now: ResolvedEndpoint) -> Iterator[str]:
    if _place(was) != _place(now):
        yield f"now counts as in {_place(now) or 'no place'} (was {_place(was) or 'no place'})"
    if was.weight != now.weight:
        effect = ", it takes no more requests" if now.weight == 0 else ""
        yield f"weight {was.weight} -> {now.weight}{effect}"
    if was.host != now.host:
        yield f"is now host {now.host or '(none)'} of the inventory (was {was.host or '(none)'})"


def _default_services(old: Site, new: Site) -> Iterator[Said]:
    """Which service answers a domain where no route says otherwise."""
    was, now = _defaults(old), _defaults(new)
    told: set[str] = set()
    for key in (*was, *(key for key in now if key not in was)):
        left, right = was.get(key), now.get(key)
        if left == right:
            continue
        known = [site.edge.service_by_name.get(name) for site, name in ((old, left), (new, right)) if name]
        # A service that comes or goes has said its domains already.
        if right is None and left not in new.edge.service_by_name:
            continue
        if left is None and right not in old.edge.service_by_name:
            continue
        told.update(name for name in (left, right) if name)
        domain, grpc = key
        what = f"{'gRPC ' if grpc else ''}requests for {domain} without a route of their own"
        text = (
            f"{what} now go to {right} (was {left or 'nothing: 404'})"
            if right
            else f"{what} are now answered 404 (was {left})"
        )
        owner = right or left
        yield Said(
            text,
            f"services[{owner}].domains",
            tenants=frozenset(one.tenant for one in known if one is not None),
            services=frozenset(name for name in (left, right) if name),
        )
    for service in new.edge.services:
        other = old.edge.service_by_name.get(service.name)
        if other is not None and other.domains != service.domains and service.name not in told:
            words = f"{in_words(other.domains)} -> {in_words(service.domains)}"
            if set(other.domains) == set(service.domains):
                words = "are listed differently; requests meet the same"
            yield _said(service, "domains", f"{service.name}: domains {words}")


def _defaults(site: Site) -> dict[tuple[str, bool], str]:
    return {
        (name, service.protocol == "grpc"): service.name
        for service in site.edge.services
        if service.is_http
        for name in service.domains
    }
