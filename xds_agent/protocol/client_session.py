"""ClientSession: a plain xDS client's stream at control (an Envoy, or grpcio's `xds:///`), delta or SotW.

Every type goes its own way, in the order of TYPES where several are due. Nothing waits for an acknowledgement
(rule 14); a client that takes nothing holds one frame back, and is then sent only the newest state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds_agent.protocol.boundary import Method, Opened
from xds_agent.protocol.delta import DeltaState
from xds_agent.protocol.fanout import Fanout
from xds_agent.protocol.revision import revision_resource
from xds_agent.protocol.session import Session
from xds_agent.protocol.sotw import SotwState
from xds_agent.protocol.wire import delta_request, delta_response, sotw_request
from xds_agent.snapshot.references import endpoints_of
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    ENVOY_TYPES,
    EXTENSION,
    REVISION,
    Resource,
    Snapshot,
)

_ORDER = {type_url: place for place, type_url in enumerate((*ENVOY_TYPES, REVISION))}
Memo = dict[tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]], tuple[str, bytes]]


class ClientSession(Session):
    """Bookkeeping of one plain client; `next_frame` is what goes out now."""

    def __init__(self, opened: Opened, node: str) -> None:
        super().__init__(opened, node)
        self.method = opened.method
        self.delta: dict[str, DeltaState] = {}
        self.sotw: dict[str, SotwState] = {}
        self.dirty: set[str] = set()
        self.last_error = ""
        self._seen: Snapshot | None = None

    def hear(self, data: bytes) -> None:
        """Take a request. Raises ProtocolError."""
        if self.method is Method.DELTA:
            request = delta_request(data)
            delta = self.delta.setdefault(request.type_url, DeltaState(request.type_url))
            delta.hear(request)
        else:
            request = sotw_request(data)
            sotw = self.sotw.setdefault(request.type_url, SotwState(request.type_url))
            sotw.hear(request)
        if request.HasField("error_detail"):
            self.last_error = request.error_detail.message
        # A bare ACK changes no subscription; looking is cheap, and the state knows.
        self.dirty.add(request.type_url)

    def see(self, snapshot: Snapshot) -> None:
        """A new snapshot: every type whose resources are not the very same is looked at again."""
        before, self._seen = self._seen, snapshot
        for type_url in self.delta.keys() | self.sotw.keys():
            if (
                before is None
                or type_url == REVISION
                or before.of_type(type_url) is not snapshot.of_type(type_url)
            ):
                self.dirty.add(type_url)

    def next_frame(self, snapshot: Snapshot, fanout: Fanout, memo: Memo | None) -> bytes | None:
        """The next response that is due, None when there is none. `memo` shares encoded bytes among the
        streams of one publish."""
        while self.dirty:
            type_url = min(self.dirty, key=lambda t: (_ORDER.get(t, len(_ORDER)), t))
            self.dirty.discard(type_url)
            view = _view(snapshot, type_url)
            if self.method is Method.DELTA:
                frame = self._delta_frame(type_url, view, fanout, memo)
            else:
                frame = self._sotw_frame(type_url, view, fanout)
            if frame is not None:
                return frame
        return None

    def _delta_frame(
        self, type_url: str, view: Mapping[str, Resource], fanout: Fanout, memo: Memo | None
    ) -> bytes | None:
        state = self.delta[type_url]
        update, gone = state.due(view)
        if type_url == EXTENSION:
            gone = []  # Rule 26.
        if not (update or gone or state.owes_answer):
            return None
        versions = {name: view[name].version for name in update}
        key = (type_url, tuple(versions.items()), tuple(gone))
        if memo is not None and key in memo:
            nonce, frame = memo[key]
        else:
            nonce = fanout.nonce()
            frame = delta_response(type_url, nonce, (view[name].raw for name in update), gone)
            if memo is not None:
                memo[key] = (nonce, frame)
        state.sent(nonce, versions, gone)
        if type_url == CLUSTER:
            self._endpoints_follow(view[name] for name in update)
        return frame

    def _sotw_frame(self, type_url: str, view: Mapping[str, Resource], fanout: Fanout) -> bytes | None:
        made = self.sotw[type_url].response(view, fanout.nonce())
        if made is None:
            return None
        frame, changed = made
        if type_url == CLUSTER:
            self._endpoints_follow(view[name] for name in changed)
        return frame

    def _endpoints_follow(self, clusters: Iterable[Resource]) -> None:
        """Rule 13: a cluster that was sent is followed by its endpoints, changed or not."""
        touched = {name for name in map(endpoints_of, clusters) if name is not None}
        if (delta := self.delta.get(ENDPOINTS)) is not None:
            for name in touched:
                delta.known.pop(name, None)
        if (sotw := self.sotw.get(ENDPOINTS)) is not None:
            sotw.forget(touched)
        if delta is not None or sotw is not None:
            self.dirty.add(ENDPOINTS)


def _view(snapshot: Snapshot, type_url: str) -> Mapping[str, Resource]:
    if type_url != REVISION:
        return snapshot.of_type(type_url)
    resource = revision_resource(snapshot)
    return {resource.name: resource}
