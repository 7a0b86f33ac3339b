"""What the leader publishes, carried to a follower: the very bytes, each resource once per stream. Pure.

The follower compiles nothing: so both publish equal versions whatever their own versions are, and an answer
to an ACME order or a maintenance window that only the leader has seen is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.snapshot.resource import Resource, Snapshot

# So many resources that are no longer used are kept in mind before both sides begin anew.
_SPARE = 1000

_Key = tuple[str, str, str]


class Encoder:
    """The leader's side of one stream."""

    def __init__(self) -> None:
        self._places: dict[_Key, int] = {}
        self._begun = False

    def encode(self, snapshots: Mapping[str, Snapshot], number: int) -> pb.Publication:
        views: dict[int, tuple[Snapshot, list[str]]] = {}
        for name, snapshot in snapshots.items():
            views.setdefault(id(snapshot), (snapshot, []))[1].append(name)
        used = sum(len(named) for snapshot, _ in views.values() for named in snapshot.resources.values())
        said = pb.Publication(number=number)
        if not self._begun or len(self._places) > 2 * used + _SPARE:
            self._places, self._begun, said.anew = {}, True, True
        for snapshot, names in views.values():
            places = [self._place(one, said) for one in _all(snapshot)]
            said.views.add(revision=snapshot.revision, number=snapshot.number, nodes=names, resources=places)
        return said

    def _place(self, resource: Resource, said: pb.Publication) -> int:
        key = (resource.type_url, resource.name, resource.version)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self._places)
            said.resources.append(resource.raw)
        return place


class Decoder:
    """The follower's side of one stream."""

    def __init__(self) -> None:
        self._resources: list[Resource] = []
        self._snapshots: dict[str, Snapshot] = {}

    def decode(self, said: pb.Publication) -> dict[str, Snapshot]:
        """Host -> snapshot. Raises ValueError on what cannot be: both sides then begin anew."""
        if said.anew:
            self._resources = []
        self._resources += [Resource.decode(raw) for raw in said.resources]
        made: dict[str, Snapshot] = {}
        hosts: dict[str, Snapshot] = {}
        for view in said.views:
            snapshot = made.get(view.revision) or self._snapshots.get(view.revision) or self._made(view)
            made[view.revision] = snapshot
            hosts.update(dict.fromkeys(view.nodes, snapshot))
        self._snapshots = made
        return hosts

    def _made(self, view: pb.PublishedView) -> Snapshot:
        try:
            snapshot = Snapshot.of((self._resources[place] for place in view.resources), view.number)
        except IndexError as error:
            raise ValueError("a publication names a resource that was never sent") from error
        if snapshot.revision != view.revision:
            raise ValueError(f"revision {view.revision} came as {snapshot.revision}")
        return snapshot


def _all(snapshot: Snapshot) -> Iterable[Resource]:
    for named in snapshot.resources.values():
        yield from named.values()
