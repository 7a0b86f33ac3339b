"""Words for what changes about routes: told per domain and path, whatever file or order they stand in."""

from __future__ import annotations

from collections.abc import Iterator

from xds_agent.explain.fields import field_changes, in_words
from xds_agent.explain.said import Said, listed
from xds_agent.model import HeaderMatch, Redirect, Respond, Route, Site

# What a rule matches is its identity; where it leads has words of its own.
_TOLD = frozenset(
    {"domains", "prefix", "exact", "regex", "methods", "headers", "service", "split", "redirect", "respond"}
)
_FOR_PEOPLE = frozenset({"name"})

Match = tuple[str, tuple[str, ...]]


def route_words(old: Site | None, new: Site) -> Iterator[Said]:
    """Routes that come, go and change; equal changes of several domains are one sentence."""
    before, after = _by_match(old), _by_match(new)
    together: dict[tuple[str, str, str, bool], list[tuple[str, frozenset[str]]]] = {}
    for key in (*before, *(key for key in after if key not in before)):
        domain, label, _ = key
        for field, words, services, reaches in _differences(before.get(key, []), after.get(key, [])):
            together.setdefault((label, field, words, reaches), []).append((domain, services))
    for (label, field, words, reaches), of in together.items():
        domains = [domain for domain, _ in of]
        yield Said(
            text=f"route {label} of {listed(domains)}{words}",
            path=f"routes[{_name(old, new, label, domains[0])}]" + (f".{field}" if field else ""),
            tenants=_tenants(old, new, domains),
            services=frozenset().union(*(services for _, services in of)) if reaches else frozenset(),
            reaches_proxies=reaches,
        )
    if old is not None and not together and old.edge.routes != new.edge.routes:
        text = "routes are grouped or listed differently; requests meet the same"
        yield Said(text, "routes", reaches_proxies=False)


def match_label(route: Route) -> str:
    """'/api', '= /robots.txt', '~ /v[0-9]+', with methods before and conditions on headers behind."""
    if route.exact is not None:
        path = f"= {route.exact}"
    elif route.regex is not None:
        path = f"~ {route.regex}"
    else:
        path = route.prefix or "/"
    methods = f"{'|'.join(route.methods)} " if route.methods else ""
    headers = f" ({', '.join(_condition(one) for one in route.headers)})" if route.headers else ""
    return f"{methods}{path}{headers}"


def goal(route: Route) -> str:
    """Where a rule leads: '95 % shop-api, 5 % shop-api-v2', 'a redirect to ...', 'the fixed answer 404'."""
    if route.redirect is not None:
        return f"to {_redirect(route.redirect)}"
    if route.respond is not None:
        return f"to {_respond(route.respond)}"
    shares = sorted(route.destinations, key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{percent} % {name}" for name, percent in shares) or "nowhere"


def _redirect(redirect: Redirect) -> str:
    parts = [
        f"{name} {in_words(getattr(redirect, name))}"
        for name in ("scheme", "host", "port", "path", "prefix")
        if getattr(redirect, name) is not None
    ]
    if redirect.strip_query:
        parts.append("without the query")
    return f"a redirect {redirect.status}{f' ({chr(44).join(parts)})' if parts else ''}".replace(",", ", ")


def _respond(respond: Respond) -> str:
    return f"the fixed answer {respond.status}" + (f" {in_words(respond.body)}" if respond.body else "")


def _condition(header: HeaderMatch) -> str:
    sign = "not " if header.negate else ""
    if header.exact is not None:
        return f"{sign}{header.name}: {header.exact}"
    if header.prefix is not None:
        return f"{sign}{header.name}: {header.prefix}..."
    if header.regex is not None:
        return f"{sign}{header.name}: ~ {header.regex}"
    return f"{sign}{header.name}"


def _by_match(site: Site | None) -> dict[tuple[str, str, object], list[Route]]:
    found: dict[tuple[str, str, object], list[Route]] = {}
    for route in site.edge.routes if site else ():
        conditions = frozenset(one.model_dump_json() for one in route.headers)
        match = (route.prefix, route.exact, route.regex, frozenset(route.methods), conditions)
        for domain in dict.fromkeys(route.domains):
            found.setdefault((domain, match_label(_sorted(route)), match), []).append(route)
    return found


def _sorted(route: Route) -> Route:
    """The same rule with its methods and conditions in one order, so that its label is one."""
    return route.model_copy(
        update={
            "methods": tuple(sorted(route.methods)),
            "headers": tuple(sorted(route.headers, key=lambda one: one.model_dump_json())),
        }
    )


def _differences(before: list[Route], after: list[Route]) -> Iterator[tuple[str, str, frozenset[str], bool]]:
    """(field, words behind the route's label, services concerned, reaches proxies)."""
    if before == after:
        return
    for was in before[len(after) :]:
        yield "", f" is removed (went {goal(was)})", _services(was), True
    for was, now in zip(before, after, strict=False):
        if goal(was) != goal(now):
            yield "", f" now goes {goal(now)} (was {goal(was)})", _services(was) | _services(now), True
        elif (was.redirect, was.respond) != (now.redirect, now.respond):
            yield "", f" now goes {goal(now)}, with another text than before", frozenset(), True
        for field, words in field_changes(was, now, skip=_TOLD):
            people = field in _FOR_PEOPLE
            yield field, f": {field} {words}", frozenset() if people else _services(now), not people
    for now in after[len(before) :]:
        extra = [
            f"{field} {in_words(getattr(now, field))}"
            for field in ("timeout", "retries")
            if getattr(now, field) is not None
        ]
        also = f", {', '.join(extra)}" if extra else ""
        yield "", f" is new and goes {goal(now)}{also}", _services(now), True


def _services(route: Route) -> frozenset[str]:
    return frozenset(name for name, _ in route.destinations)


def _tenants(old: Site | None, new: Site, domains: list[str]) -> frozenset[str] | None:
    found = {
        domain.tenant
        for site in (old, new)
        if site is not None
        for name in domains
        if (domain := site.edge.domain_by_name.get(name)) is not None
    }
    return frozenset(found) or None


def _name(old: Site | None, new: Site, label: str, domain: str) -> str:
    """How the inventory's paths call the route: by its name, else by its place in the list."""
    for site in (new, old):
        for index, route in enumerate(site.edge.routes if site else ()):
            if domain in route.domains and match_label(_sorted(route)) == label:
                return route.name or str(index)
    return "0"
