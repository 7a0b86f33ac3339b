"""What a placement may change: endpoint sets of either tier, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.snapshot.resource import ENDPOINTS, REALS, SHORT, Snapshot

_MAY_CHANGE = (ENDPOINTS, REALS)


def touched(before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]) -> list[str]:
    """Hosts whose snapshot differs. Raises ValueError where anything but endpoint sets does."""
    found = []
    for name, snapshot in after.items():
        old = before.get(name)
        if old is snapshot:
            continue
        if old is None:
            raise ValueError(f"a placement would add host {name}")
        if old.revision == snapshot.revision:
            continue
        for type_url, named in snapshot.resources.items():
            if type_url not in _MAY_CHANGE and not _same(old.of_type(type_url), named):
                raise ValueError(f"a placement would change a {SHORT[type_url]} of {name}")
        found.append(name)
    return found


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return one is other or one == other
