"""A change cut into parts, and the document with some of them left out. Pure.

A part is one service, domain, route, certificate, authority or mapping that is new, other or gone. Left out
it stays as it is live. What is no list of named things (ports, limits, hosts) belongs to every trial.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xds_agent.model.problems import place

# In the order in which one leads to another.
KINDS = ("certificates", "authorities", "domains", "services", "routes", "mappings")
_MATCH = ("domains", "prefix", "exact", "regex", "methods", "headers", "priority")
# edge.routes[3].prefix: what is in brackets is a name, or a place in the list where there is none.
_ITEM = re.compile(r"^edge\.(\w+)\[([^\]]*)\]")

Document = Mapping[str, Any]
# Key of a document that was put together so: what is left out of it.
SKIPPED = "skipped"


@dataclass(frozen=True)
class Skipped:
    """A part of the inventory that was left out, where it stands, and why."""

    path: str
    origin: str
    words: str

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "origin": self.origin, "words": self.words}

    def __str__(self) -> str:
        where = f"; {place(self.origin)}" if self.origin else ""
        return f"{self.path} is left out until it is mended: {self.words}{where}"


def marked(document: Document, skipped: Collection[Skipped]) -> dict[str, Any]:
    """The document with what is left out of it; without any, with no such mark."""
    plain = {key: value for key, value in document.items() if key != SKIPPED}
    return {**plain, SKIPPED: [one.as_dict() for one in skipped]} if skipped else plain


class Part(NamedTuple):
    """`key` tells it from others of its kind: a name, or what a nameless rule matches."""

    kind: str
    key: str
    gone: bool = False


def parts_of(old: Document, new: Document) -> list[Part]:
    """Everything that differs; what others lead to comes first, and goes last."""
    come: list[Part] = []
    gone: list[Part] = []
    for kind in KINDS:
        before, after = _keyed(old, kind), _keyed(new, kind)
        come += [Part(kind, key) for key, item in after.items() if before.get(key) != item]
        gone += [Part(kind, key, gone=True) for key in before if key not in after]
    return come + gone[::-1]


def without(old: Document, new: Document, left_out: Collection[Part]) -> dict[str, Any]:
    """The new document, as it was in these parts; origins follow what they speak of."""
    edge = dict(new["edge"])
    told = {id(old): _grouped(old), id(new): _grouped(new)}
    origins = {path: at for path, at in (new.get("origins") or {}).items() if not _of_item(path)}
    for kind in KINDS:
        before, after = _keyed(old, kind), _keyed(new, kind)
        kept: list[tuple[Document, str]] = []
        for key in after:
            if Part(kind, key) not in left_out:
                kept.append((new, key))
            elif key in before:
                kept.append((old, key))
        kept += [(old, key) for key in before if Part(kind, key, gone=True) in left_out]
        if not kept and kind not in edge:
            continue
        items = {id(old): before, id(new): after}
        labels = {id(old): _labels(before), id(new): _labels(after)}
        edge[kind] = [items[id(source)][key] for source, key in kept]
        for index, (source, key) in enumerate(kept):
            label = _label(items[id(source)][key], index)
            for rest, at in told[id(source)].get((kind, labels[id(source)][key]), ()):
                origins[f"edge.{kind}[{label}]{rest}"] = at
    return {**new, "edge": edge, "origins": origins}


def path_of(old: Document, new: Document, part: Part) -> str:
    """Where the part stands in the inventory: services[shop]; a part that is gone, where it stood."""
    label = _labels(_keyed(old if part.gone else new, part.kind)).get(part.key, "")
    return f"{part.kind}[{label}]"


def _keyed(document: Document, kind: str) -> dict[str, Any]:
    """Items by key; of several nameless rules that match alike, each has its number."""
    found: dict[str, Any] = {}
    for item in document["edge"].get(kind) or ():
        key = base = _key(item)
        number = 1
        while key in found:
            number += 1
            key = f"{base} #{number}"
        found[key] = item
    return found


def _key(item: Any) -> str:
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        return str(item["name"])
    match = {name: item[name] for name in _MATCH if isinstance(item, Mapping) and name in item}
    return json.dumps(match or item, sort_keys=True, default=str)


def _labels(items: Mapping[str, Any]) -> dict[str, str]:
    """Key -> what the paths of problems and origins call the item."""
    return {key: _label(item, index) for index, (key, item) in enumerate(items.items())}


def _label(item: Any, index: int) -> str:
    name = item.get("name") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) else str(index)


def _of_item(path: str) -> re.Match[str] | None:
    found = _ITEM.match(path)
    return found if found is not None and found[1] in KINDS else None


def _grouped(document: Document) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(kind, label) -> the origins below the item, as (rest of the path, place)."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path, at in (document.get("origins") or {}).items():
        if found := _of_item(path):
            groups.setdefault((found[1], found[2]), []).append((path[found.end() :], at))
    return groups
