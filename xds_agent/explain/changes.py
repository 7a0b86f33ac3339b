"""What a new revision changes on which proxy, in plain words, for `--check --diff` and `diff`.

Pure. The words come from the two sites, whom they reach and what closes connections from the two sets of
snapshots: what a proxy would really get decides, not what the words suggest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from xds_agent.explain.beside_vip import vip_resets, vip_words
from xds_agent.explain.closings import Closing, closings
from xds_agent.explain.masking import masker
from xds_agent.explain.name_words import name_words
from xds_agent.explain.proxy_words import arrivals, changed_hosts, unexplained
from xds_agent.explain.resets import Reset, resets
from xds_agent.explain.route_words import route_words
from xds_agent.explain.said import Said, plural
from xds_agent.explain.service_words import service_words
from xds_agent.explain.site_words import site_words
from xds_agent.model import Site
from xds_agent.snapshot.resource import CLUSTER, DATAPATH_SERVICE, Snapshot

NOTHING = "nothing changes"
REWRITTEN = "the inventory says the same in another form; no proxy holds anything else than before"
_LATER = " (this version does not act on it yet)"


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence and the proxies it holds for; no proxies: the site as such."""

    proxies: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything a revision changes. False when nothing does."""

    lines: tuple[Line, ...]
    closings: tuple[Closing, ...]
    summary: str
    resets: tuple[Reset, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lines)


def describe(
    old: Site | None,
    new: Site,
    old_snapshots: Mapping[str, Snapshot] | None,
    new_snapshots: Mapping[str, Snapshot],
) -> Changes:
    """Say what differs. `old` and `old_snapshots` are None before the first revision.

    Two sites that differ in any field give at least one line; equal sites and snapshots give none.
    No line holds a secret: keys and PEM texts are only said to be new, vault values are blanked out.
    """
    before = old_snapshots or {}
    mask = masker((old, new))
    said = list(_said(old, new))
    changed = changed_hosts(before, new_snapshots)
    reached = changed & before.keys() & new_snapshots.keys()
    lines = [Line(tuple(names), text) for text, names in arrivals(before, new_snapshots).items()]
    explained: set[str] = set()
    later = _later((old, new))
    for one in said:
        acted = one.reaches_proxies and not later(one.path)
        proxies = tuple(sorted(name for name in reached if _carries(old, new, name, one))) if acted else ()
        # The first revision is all new: its words hold for every proxy that gets it.
        if old is None and acted:
            serving = (name for name, snapshot in new_snapshots.items() if _serves(snapshot))
            proxies = tuple(sorted(name for name in serving if _carries(old, new, name, one)))
        explained.update(proxies)
        lines.append(Line(proxies, mask(one.text) + (_LATER if later(one.path) else "")))
    lines += [
        Line(tuple(names), text) for text, names in unexplained(before, new_snapshots, explained).items()
    ]
    if not _same_words(old, new):
        lines += [Line(names, text) for text, names in vip_words(old, new)]
    closed = closings(before, new_snapshots)
    lines += list(_closing_lines(closed))
    if not lines and old is not None and (old.edge, old.hosts) != (new.edge, new.hosts):
        # No difference without a word, even of a field whose words somebody forgot.
        lines.append(Line((), REWRITTEN))
    if not lines:
        return Changes((), (), NOTHING)
    broken = _broken(old, new, before, new_snapshots)
    return Changes(tuple(_unique(lines)), closed, _summary(said, later, changed, closed, broken), broken)


def _broken(
    old: Site | None, new: Site, before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]
) -> tuple[Reset, ...]:
    found = resets(old, new, before, after)
    if _same_words(old, new):
        return found
    told = {(one.proxy, one.service) for one in found}
    lost = [
        one
        for one in vip_resets(old, new, before.keys() & after.keys())
        if (one.proxy, one.service) not in told
    ]
    return tuple(sorted((*found, *lost), key=lambda one: (one.service, one.why, one.proxy)))


def _same_words(old: Site | None, new: Site) -> bool:
    return old is not None and (old is new or (old.edge is new.edge and old.hosts is new.hosts))


def _said(old: Site | None, new: Site) -> Iterator[Said]:
    if _same_words(old, new):
        return
    yield from service_words(old, new)
    yield from route_words(old, new)
    yield from name_words(old, new)
    yield from site_words(old, new)


class _later:
    """True for paths that the model knows and this version does not act on."""

    def __init__(self, sites: Iterable[Site | None]) -> None:
        self._paths = {note.path for site in sites if site is not None for note in site.not_acted_on}

    def __call__(self, path: str) -> bool:
        while path:
            if path in self._paths:
                return True
            cut = path.rfind("[") if path.endswith("]") else max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return False


def _serves(snapshot: Snapshot) -> bool:
    return bool(snapshot.of_type(CLUSTER) or snapshot.of_type(DATAPATH_SERVICE))


def _carries(old: Site | None, new: Site, name: str, said: Said) -> bool:
    if said.tenants is None:
        return True
    for site in (old, new):
        host = site.hosts.get(name) if site is not None else None
        if site is not None and host is not None and site.tenants_of(host) & said.tenants:
            return True
    return False


def _closing_lines(closed: Iterable[Closing]) -> Iterator[Line]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in closed:
        grouped.setdefault((one.listener, one.reason), []).append(one.proxy)
    for (listener, reason), proxies in grouped.items():
        yield Line(tuple(proxies), f"closes connections of listener {listener}: {reason}")


def _unique(lines: Iterable[Line]) -> Iterator[Line]:
    return iter(dict.fromkeys(lines))


def _summary(
    said: Iterable[Said], later: _later, changed: frozenset[str],
    closed: tuple[Closing, ...], broken: tuple[Reset, ...],
) -> str:  # fmt: skip
    services = frozenset().union(*(one.services for one in said if not later(one.path)))
    parts = [plural(len(services), "service"), plural(len(changed), "proxy")]
    if closed:
        where = f"{plural(len({one.listener for one in closed}), 'listener')} on "
        parts.append(f"connections of {where}{plural(len({one.proxy for one in closed}), 'proxy')} closed")
    told = {(one.proxy, one.listener) for one in closed}
    if more := [one for one in broken if (one.proxy, one.listener) not in told]:
        where = f"{plural(len({one.service for one in more}), 'service')} on "
        parts.append(f"connections of {where}{plural(len({one.proxy for one in more}), 'proxy')} reset")
    if not closed and not more:
        parts.append("0 connections closed")
    return ", ".join(parts)
