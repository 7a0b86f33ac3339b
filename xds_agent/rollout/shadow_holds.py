"""Whether a shadow's Envoy holds what it acknowledged: its own config_dump against what we believe."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Collection
from urllib.parse import quote

from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.questions import held_resources
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.live_diff import COMPARED, Difference, differences
from xds_agent.snapshot.diff import Diff
from xds_agent.snapshot.resource import SHORT, Snapshot

# An Envoy that has acknowledged everything may still be handing listeners to its workers.
SETTLED_WITHIN_S = 20.0
_AGAIN_S = 0.02
# Envoy refuses expressions that compile to more than about 100 steps: then all of it is asked for.
_EXPRESSION_MOST = 80
# Envoy's admin refuses backslashes, of which no name has any.
_SPECIAL = re.compile(r"[.$|?*+(){}\[]")
# More differences than this help nobody.
_SHOWN = 3


async def difference(admin: Admin, before: Snapshot, after: Snapshot) -> tuple[str, tuple[str, ...], str]:
    """(type, names, words) of what differs in the resources that the step touches; words are empty when
    nothing does. Raises AdminError."""
    names = {
        name for type_url, found in Diff.between(before, after).names().items() for name in found
        if type_url in COMPARED
    }  # fmt: skip
    if not names:
        return "", (), ""
    believed = _only(after, names)
    until = time.monotonic() + SETTLED_WITHIN_S
    while True:
        found = differences(believed, await _held(admin, names))
        if not found or time.monotonic() >= until:
            return _told(found)
        await asyncio.sleep(_AGAIN_S)


def _only(snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    """Resources of these names, of whatever type: Envoy is asked by name alone."""
    return Snapshot.of(
        resource for type_url in COMPARED for name, resource in snapshot.of_type(type_url).items()
        if name in names
    )  # fmt: skip


async def _held(admin: Admin, names: Collection[str]) -> list[pb.HeldResource]:
    target = "/config_dump?include_eds"
    expression = "|".join(_SPECIAL.sub(r"[\g<0>]", name) for name in sorted(names))
    if len(expression) <= _EXPRESSION_MOST:
        target += f"&name_regex={quote(f'^({expression})$', safe='')}"
    try:
        dump = json.loads(await admin.get(target))
    except ValueError as error:
        raise AdminError(f"its configuration is no JSON: {error}") from error
    return [one for one in held_resources(dump) if one.name in names]


def _told(found: list[Difference]) -> tuple[str, tuple[str, ...], str]:
    if not found:
        return "", (), ""
    first = found[0].type_url
    words = "; ".join(f"{SHORT[one.type_url]} {one.name}: {one.text}" for one in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    names = tuple(dict.fromkeys(one.name for one in found if one.type_url == first))
    return first, names, f"Envoy acknowledged it and holds something else: {words}{more}"
