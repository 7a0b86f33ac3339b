"""Words about proxies themselves: new ones, ones that leave, and bytes that change without a word."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping

from xds_agent.explain.said import listed, plural
from xds_agent.model.ports import ENVOY_HTTP
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import (
    ACCESS_LIST,
    CLUSTER,
    DATAPATH_SERVICE,
    ENDPOINTS,
    LISTENER,
    PROTECTION,
    REALS,
    ROUTES,
    SECRET,
    SHORT,
    TYPES,
    Resource,
    Snapshot,
)

# What a person asks about a new proxy; endpoint sets follow clusters, runtime and extensions are ours.
_COUNTED = ((LISTENER, "listener"), (ROUTES, "route table"), (CLUSTER, "cluster"), (SECRET, "secret"))
_OF_DATAPATH = (DATAPATH_SERVICE, "datapath service")
# No services of the inventory, and their listeners are counted already.
_UNSAID = ENVOY_HTTP.keys()

_HEALTH = (ENDPOINTS, REALS)
_TURNED = "other health or weights for the same inventory, as when a maintenance window begins or ends"
_REMADE = "made anew by the newer compiler, the inventory says the same"

ByText = dict[str, list[str]]


def arrivals(old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]) -> ByText:
    """Text -> proxies, for those that come and those that leave."""
    found: ByText = {}
    for name in sorted(new.keys() - old.keys()):
        snapshot = new[name]
        counted = (*_COUNTED, _OF_DATAPATH) if snapshot.of_type(PROTECTION) else _COUNTED
        counts = [plural(len(snapshot.of_type(kind).keys() - _UNSAID), word) for kind, word in counted]
        found.setdefault(f"new proxy, gets {listed(counts)}", []).append(name)
    for name in sorted(old.keys() - new.keys()):
        text = (
            "leaves the site: control closes its stream and sends it nothing more; it serves what it last had"
        )
        found.setdefault(text, []).append(name)
    return found


def changed_hosts(old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]) -> frozenset[str]:
    """Proxies whose configuration is not the same bytes as before, new ones and leaving ones included."""
    return frozenset(
        name
        for name in old.keys() | new.keys()
        if name not in old or name not in new or old[name].revision != new[name].revision
    )


def unexplained(
    old: Mapping[str, Snapshot], new: Mapping[str, Snapshot], explained: Collection[str]
) -> ByText:
    """Text -> proxies whose bytes change while no line of the inventory's words reaches them."""
    found: ByText = {}
    # Hosts share their lists, and one may hold a million networks: each pair is read once.
    read: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for name in sorted(old.keys() & new.keys()):
        if name in explained or old[name].revision == new[name].revision:
            continue
        for text in (*_listed(old[name], new[name], read), *_remade(old[name], new[name])):
            found.setdefault(text, []).append(name)
    return found


def _listed(old: Snapshot, new: Snapshot, read: dict[tuple[str, str, str], tuple[str, ...]]) -> Iterator[str]:
    """Access lists that both hold: networks denied by hand come, end and change beside the inventory."""
    before, after = old.of_type(ACCESS_LIST), new.of_type(ACCESS_LIST)
    for name in sorted(before.keys() & after.keys()):
        key = (name, before[name].version, after[name].version)
        if key[1] == key[2]:
            continue
        if key not in read:
            read[key] = tuple(_denied(before[name], after[name]))
        yield from read[key]


def _denied(before: Resource, after: Resource) -> Iterator[str]:
    old, new = (pb.AccessList.FromString(one.body.value) for one in (before, after))
    had, has = ({one.network: one.until for one in lists.timed} for lists in (old, new))
    for network in sorted(had.keys() - has.keys()):
        yield f"{network} is no longer denied by hand"
    for network, until in sorted(has.items()):
        if network not in had:
            yield f"{network} is denied by hand until {_moment(until)}"
        elif had[network] != until:
            yield f"{network} is denied by hand until {_moment(until)} (was {_moment(had[network])})"
    if (old.ipv4, old.ipv6) != (new.ipv4, new.ipv6):
        yield f"{SHORT[ACCESS_LIST]} {after.name}: {_REMADE}"


def _moment(unix_s: int) -> str:
    return f"{dt.datetime.fromtimestamp(unix_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _remade(old: Snapshot, new: Snapshot) -> Iterator[str]:
    for type_url in TYPES:
        before, after = old.of_type(type_url), new.of_type(type_url)
        word = SHORT[type_url]
        changed = sorted(n for n in before if n in after and before[n].version != after[n].version)
        if changed and type_url == SECRET:
            yield f"{word} {listed(changed)}: renewed, the inventory says the same"
        elif changed and type_url in _HEALTH:
            yield f"{word} of {listed(changed)}: {_TURNED}"
        elif changed and type_url != ACCESS_LIST:
            yield f"{word} {listed(changed)}: {_REMADE}"
        gone, come = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
        if gone:
            yield f"{word} {listed(gone)}: no longer sent, the inventory says the same"
        if come:
            yield f"{word} {listed(come)}: now sent, the inventory says the same"
