"""Public addresses that the stack holds and the site no longer names, refused before anything is touched.

The engine refuses to delete what is protected, but only when its turn comes: after the host it belongs to.
`up --skip-preview` would take a host first, and fail then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edge_iac.plan import Plan, Region

INVENTORY, RELEASED = "edge_inventory", "edge_released"
"""Outputs of a stack: its hosts, and the names of all that has lost its protection."""
_KEPT = "-kept"
# Of a URN: its type behind those of its parents, and its name.
_PROTECTED = re.compile(r"::edge:(aws|gcp|azure):(?:Addresses|Place)\$[^$]+::([^:]+)$")
_REGION = re.compile(r"vip-(.+?)(?:-\d+)?|.+?-(?:aws|gcp|azure)-(.+)-\d+|(.+)-kept")


def released(plan: Plan) -> list[str]:
    """Names of addresses, and of Azure's groups for them, that `up` takes the protection off."""
    return sorted(name for region in plan.regions for name in _names(region) if not region.keeps(name))


def forgotten(plan: Plan, held: Iterable[str], outputs: Mapping[str, Any]) -> list[str]:
    """A sentence for every protected thing that ``plan`` leaves out.

    Args:
        plan: what is to be made.
        held: URNs of all that the stack holds.
        outputs: what the stack put out when it was last made as a whole.
    """
    free = set(outputs.get(RELEASED) or ())
    known = {(region.cloud, name) for region in plan.regions for name in _names(region)}
    places = {(region.cloud, region.name) for region in plan.regions}
    lost: dict[tuple[str, str], list[str]] = {}
    for urn in held:
        found = _PROTECTED.search(urn)
        if found is None or (found[1], found[2]) in known or found[2] in free:
            continue
        if region := _region_of(found[2]):
            lost.setdefault((found[1], region), []).append(found[2])
    return [words for place, names in sorted(lost.items()) for words in _said(place, sorted(names), places)]


def _said(place: tuple[str, str], names: list[str], places: set[tuple[str, str]]) -> Iterator[str]:
    cloud, region = place
    path = f"clouds.{cloud}.regions.{region}"
    if place not in places:
        yield (
            f"{path} is not in the site file, and {', '.join(names)} of it are protected: put it back with "
            "leaving: true, `pulumi up`, and take it out then"
        )
        return
    for name in names:
        if name.endswith(_KEPT):
            continue
        yield (
            f"{name} is not in the site file any more, and its public address is protected: write "
            f"addresses: {{{name}: kept}} (it waits for a host of that name) or {{{name}: released}} "
            f"(it goes back to the cloud once that line is taken out) into {path}"
        )


def _names(region: Region) -> Iterator[str]:
    yield from (host.name for host in region.hosts if host.public)
    yield from region.vips
    yield from region.idle
    if region.cloud == "azure":
        yield f"{region.name}{_KEPT}"


def _region_of(name: str) -> str | None:
    """The region in the name of an address; None of Azure's group for what comes and goes."""
    found = _REGION.fullmatch(name)
    return next(filter(None, found.groups())) if found else None
