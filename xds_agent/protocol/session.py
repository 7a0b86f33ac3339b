"""Session: what control keeps of every stream, whatever it speaks; AgentSession: a node agent's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from xds_agent.protocol.boundary import Opened
from xds_agent.protocol.fanout import NOTHING, Fanout, Held, Step
from xds_agent.protocol.refusal import read_refusal
from xds_agent.protocol.revision import NAME
from xds_agent.snapshot.resource import REVISION, TYPES, Snapshot

_EMPTY: Mapping[str, Held] = MappingProxyType(dict.fromkeys(TYPES, NOTHING))


class Session:
    """One stream. Its node is said once, in the first request (rule 1)."""

    def __init__(self, opened: Opened, node: str) -> None:
        self.number = opened.stream
        self.serial = opened.serial
        self.node = node
        self.queue: deque[bytes] = deque()
        self.writing = False
        # Sweeps in a row that found the same frame waiting.
        self.sweeps = 0
        # A token was taken for the first sync.
        self.granted = False
        # Its node was found in the live revision.
        self.admitted = False


class AgentSession(Session):
    """A node agent's stream: wildcard of every type, served whole revisions, one in flight."""

    def __init__(self, opened: Opened, node: str, features: Iterable[str] = ()) -> None:
        super().__init__(opened, node)
        # What it takes; see features.
        self.features = frozenset(features)
        # Never changed in place: what is sent next is known by its identity.
        self.held: Mapping[str, Held] = _EMPTY
        # The revision it says it has: an acknowledgement, if its parts agree (trap 3).
        self.claims = ""
        # The Revision subscription comes last: all other types have said what they hold by then.
        self.begun = False
        self.in_flight: tuple[Step, Snapshot] | None = None
        self.settled = ""
        self.refused: tuple[str, tuple[str, ...], str] | None = None
        self.acknowledged = ""

    def hear_ack(self, data: bytes) -> bool:
        """Whether these are the very bytes that acknowledge the revision in flight, as nearly all are."""
        if self.in_flight is None or data != self.in_flight[0].ack:
            return False
        self.refused = None
        self._acked()
        return True

    def hear(self, request: Any, current: Snapshot | None, fanout: Fanout) -> None:
        """Take a request; `acknowledged` or `refused` is set when it answers the revision in flight."""
        self.acknowledged, self.refused = "", None
        kind = request.type_url
        if request.HasField("error_detail"):
            self._nacked(request)
        elif request.response_nonce:
            if kind == REVISION and self.in_flight and request.response_nonce == self.in_flight[0].nonce:
                self._acked()
        elif kind == REVISION:
            # Subscribed, or subscribed again because digests did not agree: what was in flight is void.
            self.begun, self.in_flight = True, None
            self.claims = request.initial_resource_versions.get(NAME, "")
            self.settled = ""
        elif kind in TYPES:
            versions = dict(request.initial_resource_versions)
            ours = current.of_type(kind) if current is not None else {}
            self.held = {**self.held, kind: fanout.intern(kind, versions, ours)}

    def _acked(self) -> None:
        assert self.in_flight is not None
        self.settled = self.acknowledged = self.in_flight[1].revision
        self.in_flight = None

    def _nacked(self, request: Any) -> None:
        """A refused part refuses its revision; either way the same is not sent again (rule 4)."""
        if self.in_flight is None:
            return
        if request.type_url == REVISION and request.response_nonce != self.in_flight[0].nonce:
            return
        type_url, names, words = read_refusal(request.error_detail)
        if request.type_url != REVISION:
            type_url = type_url or request.type_url
        self.refused = (type_url, names, words)
        self.settled = self.in_flight[1].revision

    def clear_flight(self) -> Snapshot:
        """The revision whose refusal was just heard is no longer in flight."""
        assert self.in_flight is not None
        snapshot, self.in_flight = self.in_flight[1], None
        return snapshot

    def wants(self, wanted: Snapshot) -> bool:
        """Whether `wanted` may be started on: nothing in flight, no verdict on it yet."""
        return self.begun and self.in_flight is None and not self.queue and self.settled != wanted.revision

    def start(self, step: Step, wanted: Snapshot) -> None:
        self.queue.extend(step.frames)
        self.held = wanted.resources
        self.in_flight = (step, wanted)
        self.claims = ""
