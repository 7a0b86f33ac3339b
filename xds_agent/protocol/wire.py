"""Bytes and names of the wire: responses built from encoded resources, status codes, what both hops share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from xds_agent.snapshot.resource import Resource

WILDCARD = "*"
# The node agent says this in node.user_agent_name: its streams are served whole revisions.
AGENT = "marchproxy-node"

# grpc.StatusCode values, so that the core needs no grpc.
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
PERMISSION_DENIED = 7
ABORTED = 10
UNIMPLEMENTED = 12
UNAVAILABLE = 14

_RESOURCES_TAG = b"\x12"


class ProtocolError(Exception):
    """A peer's bytes cannot be understood; its stream is to be closed with these words."""


def delta_request(data: bytes) -> Any:
    """Parse a DeltaDiscoveryRequest. Raises ProtocolError."""
    return _parse(discovery_pb2.DeltaDiscoveryRequest, data)


def sotw_request(data: bytes) -> Any:
    """Parse a DiscoveryRequest. Raises ProtocolError."""
    return _parse(discovery_pb2.DiscoveryRequest, data)


def delta_answer(data: bytes) -> Any:
    """Parse a DeltaDiscoveryResponse. Raises ProtocolError."""
    return _parse(discovery_pb2.DeltaDiscoveryResponse, data)


def delta_response(type_url: str, nonce: str, raws: Iterable[bytes], removed: Iterable[str] = ()) -> bytes:
    """A DeltaDiscoveryResponse around resources that are encoded already: nothing is encoded twice."""
    head = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce)
    head.removed_resources.extend(removed)
    parts = [head.SerializeToString(deterministic=True)]
    for raw in raws:
        parts += (_RESOURCES_TAG, _varint(len(raw)), raw)
    return b"".join(parts)


def delta_ack(type_url: str, nonce: str) -> bytes:
    """The DeltaDiscoveryRequest that acknowledges a response, and says nothing else."""
    return bytes(
        discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce).SerializeToString()
    )


def sotw_response(type_url: str, version: str, nonce: str, resources: Iterable[Resource]) -> bytes:
    """A DiscoveryResponse of these resources."""
    response = discovery_pb2.DiscoveryResponse(type_url=type_url, version_info=version, nonce=nonce)
    for resource in resources:
        response.resources.append(resource.body)
    return bytes(response.SerializeToString(deterministic=True))


def named_in(words: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that a refusal's words mention, or all when it mentions none."""
    ordered = tuple(sorted(names))
    found = tuple(n for n in ordered if re.search(rf"(?<![\w.-]){re.escape(n)}(?![\w-])", words))
    return found or ordered


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"not a {kind.DESCRIPTOR.name}: {error}") from error


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
