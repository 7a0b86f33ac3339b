"""Assembly: the node agent as client of control. Puts a host's revision together until it is whole.

Parts arrive by delta and are staged; the Revision that comes last says what the set must count to, and brings
small parts itself. It is handed on as Complete only if every digest agrees and references close, and answered
once Envoy has it active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from xds_agent.protocol.closure import Closure
from xds_agent.protocol.features import FEATURES
from xds_agent.protocol.refusal import write_refusal
from xds_agent.protocol.revision import NAME, parse_revision, read_revision
from xds_agent.protocol.wire import AGENT, WILDCARD, ProtocolError, delta_ack, delta_answer
from xds_agent.snapshot.resource import REVISION, SHORT, TYPES, Digest, Resource, Snapshot, digests


@dataclass(frozen=True, slots=True)
class Complete:
    """A whole revision. `changed` names, per type, what differs from the held set; `stream` numbers the
    upstream stream it came on."""

    snapshot: Snapshot
    changed: Mapping[str, frozenset[str]]
    stream: int
    nonce: str = field(repr=False, default="")


class Assembly:
    """Client side of the hop from control to node. `held` is the journal's set: Envoy acknowledged it.

    `node` is the host's name; `version` the agent's own, for control to show.
    """

    def __init__(self, held: Snapshot, node: str, version: str = "") -> None:
        self._held = held
        self._node = node
        self._version = version
        self._stream = 0
        self._staged: dict[str, dict[str, Resource]] = {t: dict(held.of_type(t)) for t in TYPES}
        self._frozen: dict[str, Mapping[str, Resource]] = {t: held.of_type(t) for t in TYPES}
        self._digests = {t: d.copy() for t, d in (held.digests or digests(held.resources)).items()}
        self._dirty: dict[str, set[str]] = {t: set() for t in TYPES}
        self._closure = Closure()
        self._resynced = False

    @property
    def held(self) -> Snapshot:
        return self._held

    def open(self) -> list[bytes]:
        """The first requests of a new stream: every type with the versions of the staged set, the Revision
        last, naming the one that is held: control takes that for its acknowledgement (trap 3)."""
        self._stream += 1
        self._resynced = False
        return self._subscriptions(TYPES, node=True)

    def on_response(self, data: bytes) -> list[bytes | Complete]:
        """Take a DeltaDiscoveryResponse; returns requests to write, and Complete, in order. Raises
        ProtocolError if the bytes are not one: the stream is to be closed then."""
        response = delta_answer(data)
        if response.type_url == REVISION:
            return self._revision(response)
        if response.type_url not in self._staged:
            words = f"this agent knows no {response.type_url}"
            return [self._refusal(response.type_url, response.nonce, words)]
        self._stage(response)
        return [self._answer(response.type_url, response.nonce)]

    def accept(self, complete: Complete) -> bytes | None:
        """Envoy has it active and the journal has it: the set is held from now on. Returns the ACK, or None
        when the stream it came on is gone, since the next `open` says it then."""
        self._held = complete.snapshot
        for type_url in TYPES:
            self._dirty[type_url] = self._differing(type_url, complete.changed)
        return self._answer(REVISION, complete.nonce) if complete.stream == self._stream else None

    def refuse(
        self, complete: Complete, words: str, type_url: str = "", names: tuple[str, ...] = ()
    ) -> bytes | None:
        """Envoy is back on the held set. What was staged stays staged: control sends what differs from it."""
        if complete.stream != self._stream:
            return None
        return self._refusal(REVISION, complete.nonce, words, type_url, names)

    # --- staging

    def _stage(self, response: Any) -> None:
        type_url = response.type_url
        for wrapped in response.resources:
            raw = wrapped.SerializeToString(deterministic=True)
            self._take(Resource(type_url, wrapped.name, wrapped.version, raw))
        for name in response.removed_resources:
            self._drop(type_url, name)
        self._frozen.pop(type_url, None)

    def _stage_part(self, part: Any) -> None:
        """The same, of what came within the Revision."""
        for raw in part.resources:
            self._take(replace(Resource.decode(raw), type_url=part.type_url))
        for name in part.removed:
            self._drop(part.type_url, name)
        self._frozen.pop(part.type_url, None)

    def _take(self, resource: Resource) -> None:
        type_url = resource.type_url
        self._drop(type_url, resource.name)
        self._staged[type_url][resource.name] = resource
        self._digests[type_url].add(type_url, resource.name, resource.version)
        self._closure.add(resource)

    def _drop(self, type_url: str, name: str) -> None:
        self._dirty[type_url].add(name)
        before = self._staged[type_url].pop(name, None)
        if before is not None:
            self._digests[type_url].remove(type_url, name, before.version)
            self._closure.remove(before)

    def _differing(self, type_url: str, changed: Mapping[str, frozenset[str]]) -> set[str]:
        """Names staged since that differ from what is held now."""
        held, staged = self._held.of_type(type_url), self._staged[type_url]
        names = self._dirty[type_url] | changed.get(type_url, frozenset())
        return {name for name in names if not _same(held.get(name), staged.get(name))}

    # --- the revision

    def _revision(self, response: Any) -> list[bytes | Complete]:
        if not response.resources:
            return [self._answer(REVISION, response.nonce)]
        try:
            message = parse_revision(response.resources[0].resource.value)
            unknown = [part.type_url for part in message.parts if part.type_url not in self._staged]
            for part in () if unknown else message.parts:
                self._stage_part(part)
        except DecodeError as error:
            raise ProtocolError(f"not a Revision: {error}") from error
        if unknown:
            return [self._refusal(REVISION, response.nonce, f"this agent knows no {unknown[0]}")]
        identity, number, expected = read_revision(message)
        if wrong := self._mismatches(expected):
            return self._resync(response.nonce, wrong)
        if problem := self._closure.problem(self._staged):
            return [self._refusal(REVISION, response.nonce, problem)]
        self._resynced = False
        changed = {t: frozenset(self._differing(t, {})) for t in TYPES}
        sums = MappingProxyType({t: digest.copy() for t, digest in self._digests.items()})
        snapshot = Snapshot(MappingProxyType(self._freeze()), identity, number, sums)
        return [Complete(snapshot, changed, self._stream, response.nonce)]

    def _mismatches(self, expected: Mapping[str, Digest]) -> dict[str, str]:
        wrong = {}
        for type_url, digest in expected.items():
            have = self._digests.get(type_url, Digest())
            if have != digest:
                short = SHORT.get(type_url, type_url)
                wrong[type_url] = f"{short}: {have.count} received, {digest.count} promised"
                if have.count == digest.count:
                    wrong[type_url] = f"{short}: {have.count} received, not all in the promised version"
        return wrong

    def _resync(self, nonce: str, wrong: Mapping[str, str]) -> list[bytes | Complete]:
        """Ask again for what does not add up, once, with what is staged; a second time it is refused."""
        known = [t for t in wrong if t in self._staged]
        if self._resynced or not known:
            words = "the revision is incomplete: " + "; ".join(wrong.values())
            return [self._refusal(REVISION, nonce, words)]
        self._resynced = True
        return list(self._subscriptions(known))

    def _freeze(self) -> dict[str, Mapping[str, Resource]]:
        """Immutable maps of the staged set; a type in which nothing moved shares the map of before."""
        for type_url in TYPES:
            if type_url not in self._frozen:
                held = self._held.of_type(type_url)
                same = not self._differing(type_url, {}) and len(held) == len(self._staged[type_url])
                copy = held if same else MappingProxyType(dict(self._staged[type_url]))
                self._frozen[type_url] = copy
        return dict(self._frozen)

    # --- requests

    def _subscriptions(self, type_urls: Any, *, node: bool = False) -> list[bytes]:
        requests: list[bytes] = []
        for type_url in (*type_urls, REVISION):
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
            request.resource_names_subscribe.append(WILDCARD)
            versions = request.initial_resource_versions
            if type_url == REVISION:
                if self._held.revision and not self._ahead:
                    versions[NAME] = self._held.revision
            else:
                for resource in self._staged[type_url].values():
                    versions[resource.name] = resource.version
            if node and not requests:
                request.node.id = self._node
                request.node.user_agent_name = AGENT
                request.node.user_agent_version = self._version
                request.node.client_features.extend(FEATURES)
            requests.append(bytes(request.SerializeToString(deterministic=True)))
        return requests

    @property
    def _ahead(self) -> bool:
        """Whether anything staged differs from what is held."""
        return any(self._differing(t, {}) for t in TYPES)

    def _answer(self, type_url: str, nonce: str) -> bytes:
        return delta_ack(type_url, nonce)

    def _refusal(
        self, type_url: str, nonce: str, words: str, blamed: str = "", names: tuple[str, ...] = ()
    ) -> bytes:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        write_refusal(request.error_detail, words, blamed, names)
        return bytes(request.SerializeToString())


def _same(one: Resource | None, other: Resource | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.version == other.version
