"""Resource and Snapshot: what a host is to hold, as immutable values with content versions.

A resource's version is a hash of its own deterministic bytes, so equal content has equal versions on
every control host and nothing unchanged is resent after a fail-over (knowledge: xDS rules 20 and 23).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTES = PREFIX + "envoy.config.route.v3.RouteConfiguration"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
RUNTIME = PREFIX + "envoy.service.runtime.v3.Runtime"
REVISION = PREFIX + "marchproxy.v1.Revision"
PROTECTION = PREFIX + "marchproxy.datapath.v1.Protection"
ACCESS_LIST = PREFIX + "marchproxy.datapath.v1.AccessList"
REALS = PREFIX + "marchproxy.datapath.v1.Reals"
DATAPATH_SERVICE = PREFIX + "marchproxy.datapath.v1.Service"

# The order in which a host is brought to a new set: what is referred to comes before what refers.
ENVOY_TYPES = (SECRET, CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, RUNTIME)
DATAPATH_TYPES = (PROTECTION, ACCESS_LIST, REALS, DATAPATH_SERVICE)
# A type's place is its number in journals on disk: new ones come last.
TYPES = (*ENVOY_TYPES, *DATAPATH_TYPES)

SHORT = {
    CLUSTER: "cluster",
    ENDPOINTS: "endpoints",
    LISTENER: "listener",
    ROUTES: "routes",
    SECRET: "secret",
    EXTENSION: "extension",
    RUNTIME: "runtime",
    REVISION: "revision",
    PROTECTION: "protection",
    ACCESS_LIST: "access list",
    REALS: "reals",
    DATAPATH_SERVICE: "datapath service",
}

_DIGEST_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource, encoded once.

    `raw` is the serialized envoy.service.discovery.v3.Resource (name, version, Any): the bytes that a
    delta response repeats. `body` cuts the Any back out for state-of-the-world responses.
    """

    type_url: str
    name: str
    version: str
    raw: bytes = field(repr=False)

    @classmethod
    def of(cls, type_url: str, name: str, message: Any) -> Resource:
        """Encode a protobuf message deterministically and version it by content (blake2b, 96 bits)."""
        return cls.of_bytes(type_url, name, message.SerializeToString(deterministic=True))

    @classmethod
    def of_bytes(cls, type_url: str, name: str, value: bytes) -> Resource:
        """As `of`, of a message that is encoded already; equal content must come as equal bytes."""
        version = hashlib.blake2b(value, digest_size=12).hexdigest()
        wrapped = discovery_pb2.Resource(name=name, version=version)
        wrapped.resource.type_url = type_url
        wrapped.resource.value = value
        return cls(type_url, name, version, wrapped.SerializeToString(deterministic=True))

    @classmethod
    def decode(cls, raw: bytes) -> Resource:
        """Read back what `raw` holds. Raises google.protobuf.message.DecodeError on damaged bytes."""
        wrapped = discovery_pb2.Resource.FromString(raw)
        return cls(wrapped.resource.type_url, wrapped.name, wrapped.version, raw)

    @property
    def body(self) -> Any:
        """The google.protobuf.Any inside, as state-of-the-world responses carry it."""
        return discovery_pb2.Resource.FromString(self.raw).resource

    def item_hash(self) -> int:
        """This resource's share of its type's digest (see Revision in marchproxy.proto)."""
        return item_hash(self.type_url, self.name, self.version)


def item_hash(type_url: str, name: str, version: str) -> int:
    """128-bit hash of one (type, name, version), summed into a TypeDigest."""
    text = f"{type_url}|{name}|{version}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


class Digest:
    """Order-free digest of one type's resources, kept up incrementally: (count, sum modulo 2^128)."""

    __slots__ = ("count", "total")

    def __init__(self, count: int = 0, total: int = 0) -> None:
        self.count = count
        self.total = total

    def add(self, type_url: str, name: str, version: str) -> None:
        self.count += 1
        self.total = (self.total + item_hash(type_url, name, version)) % _DIGEST_MODULUS

    def remove(self, type_url: str, name: str, version: str) -> None:
        self.count -= 1
        self.total = (self.total - item_hash(type_url, name, version)) % _DIGEST_MODULUS

    def copy(self) -> Digest:
        return Digest(self.count, self.total)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.count, self.total) == (other.count, other.total)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Digest({self.count}, {self.total:032x})"


Resources = Mapping[str, Mapping[str, Resource]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one view of hosts holds: type url -> name -> Resource, with its revision id."""

    resources: Resources
    revision: str = ""
    number: int = 0
    # Digest per type; empty when whoever made the snapshot did not keep them.
    digests: Mapping[str, Digest] = field(
        default_factory=lambda: MappingProxyType({}), compare=False, repr=False
    )

    @classmethod
    def of(cls, resources: Iterable[Resource], number: int = 0) -> Snapshot:
        """Collect resources of any types. Raises ValueError on a duplicate name (xDS rule 12)."""
        by_type: dict[str, dict[str, Resource]] = {t: {} for t in TYPES}
        for resource in resources:
            named = by_type[resource.type_url]
            if resource.name in named:
                raise ValueError(f"two {SHORT[resource.type_url]} resources are named {resource.name!r}")
            named[resource.name] = resource
        frozen = MappingProxyType({t: MappingProxyType(named) for t, named in by_type.items()})
        sums = digests(frozen)
        return cls(frozen, revision_id(sums), number, MappingProxyType(sums))

    @classmethod
    def after(cls, previous: Snapshot, resources: Mapping[str, Mapping[str, Resource]]) -> Snapshot:
        """`resources` by type and name, most of them objects of `previous`: only the others are hashed.

        Returns `previous` itself when nothing differs. The mappings given must not change afterwards.
        """
        named = dict(previous.resources)
        sums = dict(previous.digests or digests(previous.resources))
        for type_url, new in resources.items():
            old = previous.of_type(type_url)
            gone, come = _exchanged(old, new)
            if not gone and not come:
                continue
            digest = sums.get(type_url, Digest()).copy()
            for resource in gone:
                digest.remove(type_url, resource.name, resource.version)
            for resource in come:
                digest.add(type_url, resource.name, resource.version)
            named[type_url], sums[type_url] = MappingProxyType(new), digest
        if all(named.get(t) is previous.resources.get(t) for t in named):
            return previous
        return cls(MappingProxyType(named), revision_id(sums), previous.number, MappingProxyType(sums))

    def of_type(self, type_url: str) -> Mapping[str, Resource]:
        return self.resources.get(type_url, MappingProxyType({}))


def _exchanged(
    old: Mapping[str, Resource], new: Mapping[str, Resource]
) -> tuple[list[Resource], list[Resource]]:
    """(resources of `old` that `new` has not, those of `new` that `old` has not), by version."""
    if len(old) == len(new):
        pairs = [pair for pair in zip(old.values(), new.values(), strict=True) if pair[0] is not pair[1]]
        if all(before.name == after.name for before, after in pairs):
            pairs = [pair for pair in pairs if pair[0].version != pair[1].version]
            return [before for before, _ in pairs], [after for _, after in pairs]
    come = [one for name, one in new.items() if old.get(name) is not one]
    come = [one for one in come if one.name not in old or old[one.name].version != one.version]
    gone = [old[one.name] for one in come if one.name in old]
    if len(new) != len(old) + len(come) - len(gone):
        gone += [one for name, one in old.items() if name not in new]
    return gone, come


def digests(resources: Resources) -> dict[str, Digest]:
    """Digest of each type in TYPES order."""
    result = {t: Digest() for t in TYPES}
    for type_url, named in resources.items():
        for resource in named.values():
            result[type_url].add(type_url, resource.name, resource.version)
    return result


def revision_id(by_type: Mapping[str, Digest]) -> str:
    """Content hash of a whole set: what the Revision resource and every status call it by."""
    # Types of the datapath count where there are any: a host without one is called as it always was.
    counted = [t for t in TYPES if t in by_type and (t in ENVOY_TYPES or by_type[t].count)]
    text = "|".join(f"{t}:{by_type[t].count}:{by_type[t].total:x}" for t in counted)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


EMPTY = Snapshot.of(())
