"""What proxies hold by the live revision, as the very bytes, so that it survives a restart.

A revision is stored as what the inventory said; what a compiler made of that is another thing, and a newer
one may make something else. Resources lie once, however many views hold them; a change writes only new ones.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from xds_agent.snapshot.resource import TYPES, Resource, Snapshot
from xds_agent.store.schema import ServedResourceRow, ServedRow, ServedViewRow
from xds_agent.store.sealing import Sealer

_ONLY = 1
_BATCH = 500
# Fast: a table of routes has megabytes, and a change waits for it.
_LEVEL = 1


@dataclass(frozen=True)
class About:
    """`number` is the revision it is of, `compiler` who made it; `refused` whose bytes proxies refused after
    that, with the `words`."""

    number: int
    compiler: str
    refused: str = ""
    words: str = ""


def about(session: Session) -> About | None:
    """None before the first revision, or when a version without this table wrote it."""
    row = session.get(ServedRow, _ONLY)
    return None if row is None else About(row.number, row.compiler, row.refused, row.words)


def keep(
    session: Session, sealer: Sealer, number: int, compiler: str, snapshots: Mapping[str, Snapshot]
) -> None:
    """From now on proxies hold this."""
    views: dict[str, tuple[Snapshot, list[str]]] = {}
    for name, snapshot in snapshots.items():
        views.setdefault(snapshot.revision, (snapshot, []))[1].append(name)
    wanted: dict[str, Resource] = {}
    rows = []
    for revision, (snapshot, hosts) in views.items():
        mine = {_key(one): one for named in snapshot.resources.values() for one in named.values()}
        wanted |= mine
        rows.append({"revision": revision, "hosts": sorted(hosts), "resources": _packed(mine)})
    held = set(session.scalars(select(ServedResourceRow.key)))
    _add(session, sealer, {key: one for key, one in wanted.items() if key not in held})
    _remove(session, sorted(held - wanted.keys()))
    session.execute(delete(ServedViewRow))
    if rows:
        session.execute(insert(ServedViewRow), rows)
    _note(session, number, compiler)


def note_refused(session: Session, compiler: str, words: str) -> None:
    """Proxies refused what this compiler makes of the same revision."""
    session.execute(update(ServedRow).values(refused=compiler, words=words))


def load(session: Session, sealer: Sealer) -> dict[str, Snapshot]:
    """Host -> what it holds. Raises SealError, or ValueError where rows are missing or damaged."""
    resources = {
        row.key: Resource.decode(zlib.decompress(sealer.open(row.ciphertext, belongs_to=_owner(row.key))))
        for row in session.scalars(select(ServedResourceRow))
    }
    found: dict[str, Snapshot] = {}
    for view in session.scalars(select(ServedViewRow)):
        keys = json.loads(zlib.decompress(view.resources))
        try:
            snapshot = Snapshot.of(resources[key] for key in keys)
        except KeyError as error:
            raise ValueError(f"resource {error} of what proxies hold is missing") from error
        if snapshot.revision != view.revision:
            raise ValueError(f"revision {view.revision} of what proxies hold came as {snapshot.revision}")
        found.update(dict.fromkeys(view.hosts, snapshot))
    return found


def _add(session: Session, sealer: Sealer, fresh: Mapping[str, Resource]) -> None:
    rows = [
        {"key": key, "ciphertext": sealer.seal(zlib.compress(one.raw, _LEVEL), belongs_to=_owner(key))}
        for key, one in fresh.items()
    ]
    if rows:
        session.execute(insert(ServedResourceRow), rows)


def _remove(session: Session, keys: list[str]) -> None:
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        session.execute(delete(ServedResourceRow).where(ServedResourceRow.key.in_(batch)))


def forget_refusal(session: Session) -> None:
    """The inventory is another: what was refused of the one before says nothing of it."""
    session.execute(update(ServedRow).values(refused="", words=""))


def _note(session: Session, number: int, compiler: str) -> None:
    """A refusal is forgotten with the bytes it was compared with."""
    row = session.get(ServedRow, _ONLY)
    if row is None:
        session.add(ServedRow(id=_ONLY, number=number, compiler=compiler, refused="", words=""))
        return
    if row.compiler != compiler:
        row.compiler, row.refused, row.words = compiler, "", ""
    row.number = number


def _key(resource: Resource) -> str:
    return f"{TYPES.index(resource.type_url)} {resource.version} {resource.name}"


def _packed(keys: Iterable[str]) -> bytes:
    return zlib.compress(json.dumps(list(keys)).encode(), _LEVEL)


def _owner(key: str) -> str:
    return f"served {key}"
