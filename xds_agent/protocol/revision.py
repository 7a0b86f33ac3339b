"""The Revision resource: what closes a host's set of resources on the hop from control to node agent."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.service.discovery.v3 import discovery_pb2

from xds_agent.proto import marchproxy_pb2
from xds_agent.snapshot.resource import REVISION, TYPES, Digest, Resource, Snapshot, digests

NAME = "revision"
_SUM_BYTES = 16


def revision_resource(snapshot: Snapshot) -> Resource:
    """The Revision of `snapshot`; its version is the snapshot's revision id."""
    message = marchproxy_pb2.Revision(id=snapshot.revision, number=snapshot.number)
    for type_url, digest in (snapshot.digests or digests(snapshot.resources)).items():
        message.digests.add(
            type_url=type_url, count=digest.count, sum=digest.total.to_bytes(_SUM_BYTES, "big")
        )
    wrapped = discovery_pb2.Resource(name=NAME, version=snapshot.revision)
    wrapped.resource.type_url = REVISION
    wrapped.resource.value = message.SerializeToString(deterministic=True)
    return Resource(REVISION, NAME, snapshot.revision, wrapped.SerializeToString(deterministic=True))


def read_revision(body: bytes) -> tuple[str, int, Mapping[str, Digest]]:
    """(id, number, digest per type) of a serialized Revision; types it does not list are empty.
    Raises google.protobuf.message.DecodeError."""
    message = marchproxy_pb2.Revision.FromString(body)
    listed = {d.type_url: Digest(d.count, int.from_bytes(d.sum, "big")) for d in message.digests}
    return message.id, message.number, {t: listed.get(t, Digest()) for t in TYPES} | listed
