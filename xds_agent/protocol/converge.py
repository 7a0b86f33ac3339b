"""Converge: takes one Envoy through stages, each gated on the acknowledgement of the one before.

One machine serves a new revision, a reconnect and a revert (trap 4); they differ in their stages only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xds_agent.protocol.delta import Heard
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream
from xds_agent.protocol.wire import named_in
from xds_agent.snapshot.plan import MAKING, Push, Stage
from xds_agent.snapshot.resource import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    RUNTIME,
    SECRET,
    SHORT,
    Resource,
)

# Goes out whatever Envoy has asked for: one that is wedged does not ask.
CLEAN_UP = "clean-up"
View = dict[str, dict[str, Resource]]
# What Envoy asks for by name, and only once something it has refers to it.
_ON_DEMAND = frozenset({SECRET, ROUTES, EXTENSION})
_ASKED_LATER = frozenset({SECRET, EXTENSION, RUNTIME})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a convergence failed."""

    type_url: str
    names: tuple[str, ...]
    words: str


class Converge:
    """Drives `stream` through `stages` until `done` or `verdict`.

    `view` is what the Envoy is to hold now, from which subscriptions are answered; it moves towards `goal`
    stage by stage. NACKs of responses up to nonce `floor` belong to what went before: they are only heard
    (trap 1). With `asked_only`, types that Envoy has not come to ask for are left to its own first request.
    """

    def __init__(
        self, stream: EnvoyStream, view: View, stages: Sequence[Stage],
        goal: Mapping[str, Mapping[str, Resource]], *, floor: int = 0, asked_only: bool = False,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._view = view
        self._stages = list(stages)
        self.goal = goal
        self._floor = floor
        self._asked_only = asked_only
        self._pending: dict[tuple[str, str], str | None] = {}
        self._fence: tuple[str, tuple[str, ...]] | None = None
        self.stage: Stage | None = None
        self.verdict: Verdict | None = None
        self.late_words = ""

    @property
    def done(self) -> bool:
        return self.stage is None and not self._stages and self.verdict is None

    @property
    def awaits_clusters(self) -> bool:
        """Clusters are out and not acknowledged: their refusal may be withheld (trap 1)."""
        return any(type_url == CLUSTER for type_url, _ in self._pending)

    @property
    def turned(self) -> bool:
        """Everything that was to be made is acknowledged: what follows turns the traffic."""
        return self.stage is not None and self.stage.name != MAKING

    @property
    def size(self) -> int:
        """Resources this stage waits for."""
        return len(self._pending)

    def advance(self) -> bool:
        """Enter the next stage if the present one is acknowledged. True if a stage was entered."""
        entered = False
        while self.verdict is None and not self._pending:
            self.stage = self._stages.pop(0) if self._stages else None
            if self.stage is None:
                break
            self._enter(self.stage)
            entered = True
        return entered

    def heard(self, type_url: str, heard: Heard) -> bool:
        """Take an answer of Envoy's. True if it moved something."""
        if heard.answered is None:
            return False
        if heard.refusal is not None:
            return self._nacked(type_url, heard)
        moved = False
        for name, version in heard.answered.items():
            key = (type_url, name)
            if key in self._pending and self._pending[key] == version:
                del self._pending[key]
                moved = True
        if type_url == ENDPOINTS:
            self._check_fence(heard.nonce)
        return moved

    def held_already(self, type_url: str, names: Iterable[str]) -> None:
        """Envoy let these go by itself: nobody waits for their acknowledgement any longer."""
        for name in names:
            self._pending.pop((type_url, name), None)

    def fail(self, type_url: str, words: str) -> None:
        """A verdict from elsewhere: Envoy's counter, a stream that broke."""
        names = sorted(name for kind, name in self._pending if kind == type_url)
        self.verdict = self.verdict or Verdict(type_url, tuple(names), words)

    def stalled(self, after_s: float) -> None:
        """Nothing moved for too long (rule 18: a state of its own, beside ACK and NACK)."""
        waiting = sorted(self._pending)
        kinds = list(dict.fromkeys(type_url for type_url, _ in waiting))
        what = "; ".join(
            f"{SHORT[kind]} {', '.join([n for t, n in waiting if t == kind][:5])}" for kind in kinds
        )
        where = self.stage.name if self.stage else "nothing"
        words = f"Envoy did not acknowledge within {after_s:g} s, waiting for {where}: {what}"
        kind = kinds[0] if kinds else CLUSTER
        self.verdict = self.verdict or Verdict(kind, tuple(n for t, n in waiting if t == kind), words)

    def _enter(self, stage: Stage) -> None:
        for forget in stage.forget:
            for name in forget.remove:
                self._view[forget.type_url].pop(name, None)
        for push in stage.pushes:
            self._move_view(push)
        for push in stage.pushes:
            self._push(push, stage)
        for awaited in stage.awaits:
            if not self._asked_only or self._stream.initialised:
                self._need(awaited.type_url, awaited.update)

    def _move_view(self, push: Push) -> None:
        view = self._view[push.type_url]
        for name in push.update:
            view[name] = self.goal[push.type_url][name]
        for name in push.remove:
            view.pop(name, None)

    def _push(self, push: Push, stage: Stage) -> None:
        kind, stream = push.type_url, self._stream
        if self._left_alone(kind) and stage.name != CLEAN_UP:
            return
        names: Sequence[str] = push.update
        if kind == ENDPOINTS and not stream.initialised:
            # During initialisation only subscriptions are answered (trap 9).
            names = [name for name in names if stream.subscribed(kind, name)]
        elif kind not in WILDCARD_TYPES and kind != ENDPOINTS:
            names = [name for name in names if stream.subscribed(kind, name)]
        if kind in _ON_DEMAND:
            # Asked for and answered already, on the way here.
            known = stream.state(kind).known if stream.seen(kind) else {}
            names = [name for name in names if known.get(name) != self._view[kind][name].version]
        removed = [name for name in push.remove if kind in WILDCARD_TYPES or stream.subscribed(kind, name)]
        nonce = ""
        if names or removed:
            nonce = stream.push(kind, [self._view[kind][name] for name in names], removed)
        # What Envoy has not asked for yet is waited for in a later stage, once something refers to it.
        self._need(kind, names if kind in _ASKED_LATER else push.update)
        for name in removed:
            self._pending[kind, name] = None
        if kind == ENDPOINTS and nonce:
            self._set_fence(nonce, stage)

    def _left_alone(self, type_url: str) -> bool:
        return self._asked_only and not self._stream.seen(LISTENER if type_url == ROUTES else type_url)

    def _need(self, type_url: str, names: Iterable[str]) -> None:
        acked = self._stream.state(type_url).acked if self._stream.seen(type_url) else {}
        for name in names:
            version = self._view[type_url][name].version
            if acked.get(name) != version:
                self._pending[type_url, name] = version

    def _set_fence(self, nonce: str, stage: Stage) -> None:
        """Once the endpoints sent behind new clusters are acknowledged, Envoy has read the clusters too, and
        one whose endpoints it never asked for is refused, whatever it withholds."""
        endpoints = self._view[ENDPOINTS]
        new = tuple(
            name
            for name in stage.new_clusters
            if name in endpoints and not self._stream.subscribed(ENDPOINTS, name)
        )
        self._fence = (nonce, new) if new else None

    def _check_fence(self, nonce: str) -> None:
        if self._fence is None or self._fence[0] != nonce:
            return
        refused = tuple(name for name in self._fence[1] if not self._stream.subscribed(ENDPOINTS, name))
        self._fence = None
        if refused and self.verdict is None:
            words = "Envoy refused the cluster: it never asked for its endpoints"
            self.verdict = Verdict(CLUSTER, refused, words)

    def _nacked(self, type_url: str, heard: Heard) -> bool:
        assert heard.answered is not None and heard.refusal is not None
        self._stream.refused(type_url, heard.answered)
        if int(heard.nonce) <= self._floor:
            self.late_words = self.late_words or heard.refusal
            return False
        names = named_in(heard.refusal, heard.answered)
        self.verdict = self.verdict or Verdict(type_url, names, heard.refusal)
        return True
