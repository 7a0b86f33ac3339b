"""The Revision resource: what closes a host's set of resources on the hop from control to node agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from envoy.service.discovery.v3 import discovery_pb2

from xds_agent.proto import marchproxy_pb2
from xds_agent.snapshot.resource import REVISION, TYPES, Digest, Resource, Snapshot, digests

NAME = "revision"
_SUM_BYTES = 16


class Part(NamedTuple):
    """What one type differs by: encoded resources, and names that go."""

    type_url: str
    raws: tuple[bytes, ...]
    removed: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.raws)) + sum(map(len, self.removed))


def revision_resource(snapshot: Snapshot, parts: Iterable[Part] = ()) -> Resource:
    """The Revision of `snapshot`; its version is the snapshot's revision id."""
    message = marchproxy_pb2.Revision(id=snapshot.revision, number=snapshot.number)
    for type_url, digest in (snapshot.digests or digests(snapshot.resources)).items():
        message.digests.add(
            type_url=type_url, count=digest.count, sum=digest.total.to_bytes(_SUM_BYTES, "big")
        )
    for part in parts:
        message.parts.add(type_url=part.type_url, resources=part.raws, removed=part.removed)
    wrapped = discovery_pb2.Resource(name=NAME, version=snapshot.revision)
    wrapped.resource.type_url = REVISION
    wrapped.resource.value = message.SerializeToString(deterministic=True)
    return Resource(REVISION, NAME, snapshot.revision, wrapped.SerializeToString(deterministic=True))


def parse_revision(body: bytes) -> Any:
    """A serialized Revision as its message. Raises google.protobuf.message.DecodeError."""
    return marchproxy_pb2.Revision.FromString(body)


def read_revision(message: Any) -> tuple[str, int, Mapping[str, Digest]]:
    """(id, number, digest per type) of a Revision; types it does not list are empty."""
    listed = {d.type_url: Digest(d.count, int.from_bytes(d.sum, "big")) for d in message.digests}
    return message.id, message.number, {t: listed.get(t, Digest()) for t in TYPES} | listed
