"""Envoy's refusal, brought back to the line of the inventory it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from xds_agent.model import Problem, Site
from xds_agent.model.problems import place
from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout.build import Built, Live
from xds_agent.rollout.release import Failure
from xds_agent.snapshot.resource import ROUTES, SHORT

# More places, or names of proxies, than this help nobody.
_SHOWN = 5


def problems_of(built: Built, before: Live | None, failures: Iterable[Failure]) -> list[Problem]:
    """Why a change did not stay, each with its place in the inventory where that is known. What happened to
    many proxies alike is told once, with who and how many they are."""
    problems: list[Problem] = []
    for nodes, failure in _alike(failures):
        who = _people(nodes)
        if failure.refusal is None:
            origin = built.site.origin(failure.path) if failure.path else None
            words = who + failure.words.removeprefix(failure.node)
            problems.append(Problem(path=failure.path, message=words, origin=origin))
        else:
            problems += refusal_problems(built, before, who, failure.refusal)
    return problems


def _alike(failures: Iterable[Failure]) -> list[tuple[list[str], Failure]]:
    """Nodes, and what happened to each of them: the first one's stands for all."""
    found: dict[tuple[object, ...], tuple[list[str], Failure]] = {}
    for one in failures:
        said = one.refusal
        what = (said.type_url, said.names, said.words) if said else one.words.removeprefix(one.node)
        found.setdefault((what, one.path), ([], one))[0].append(one.node)
    return list(found.values())


def _people(nodes: Sequence[str]) -> str:
    """`edge1`; `edge1, edge2 and 58 others`."""
    shown = ", ".join(nodes[:_SHOWN])
    more = len(nodes) - _SHOWN
    return shown if more <= 0 else f"{shown} and {more} other{'s' if more > 1 else ''}"


def refusal_problems(built: Built, before: Live | None, who: str, refusal: Refused) -> list[Problem]:
    """Envoy's words, once per resource it names, each with its place in the inventory.

    A table of routes holds those of many lines, and Envoy names only the table; the edit that was just made
    is what it refuses, so the routes that differ from what is live are named.
    """
    kind = SHORT.get(refusal.type_url, refusal.type_url)
    if not refusal.names:
        return [Problem(path="", message=f"{who} refused the revision: {refusal.words}")]
    edits = changed_routes(before.site if before else None, built.site) if refusal.type_url == ROUTES else []
    problems = []
    for name in refusal.names:
        message = f"{who} refused {kind} {name}: {refusal.words}"
        path = built.compiled.origin_of(refusal.type_url, name) or ""
        fix = ""
        if len(edits) == 1:
            path = edits[0]
        elif edits:
            fix = "one of what was changed: " + ", ".join(
                _placed(built.site, edit) for edit in edits[:_SHOWN]
            )
            fix += f" and {len(edits) - _SHOWN} more" if len(edits) > _SHOWN else ""
        problems.append(Problem(path=path, message=message, fix=fix, origin=built.site.origin(path)))
    return problems


def placed(where: Built | Live | None, refusal: Refused) -> str:
    """The refusal in one line for a table: resource, Envoy's words, and the line of the inventory."""
    kind = SHORT.get(refusal.type_url, refusal.type_url)
    if not refusal.names:
        return refusal.words
    origins = []
    if where is not None:
        found = (where.site.origin(where.compiled.origin_of(refusal.type_url, n)) for n in refusal.names)
        origins = [place(origin) for origin in dict.fromkeys(found) if origin]
    shown = ", ".join(refusal.names[:_SHOWN])
    return "; ".join([f"{kind} {shown}: {refusal.words}", *origins[:_SHOWN]])


def changed_routes(old: Site | None, new: Site) -> list[str]:
    """Paths of the routes that are not among the old ones."""
    known = Counter(route.model_dump_json() for route in (old.edge.routes if old else ()))
    paths = []
    for index, route in enumerate(new.edge.routes):
        text = route.model_dump_json()
        if known[text] > 0:
            known[text] -= 1
            continue
        label = getattr(route, "name", None) or index
        paths.append(f"routes[{label}]")
    return paths


def _placed(site: Site, path: str) -> str:
    origin = site.origin(path)
    return f"{path} ({place(origin)})" if origin else path
