"""DeltaState: what one delta stream holds of one type, what is under way to it, and what it is owed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xds_agent.protocol.subscription import Asked, Subscription
from xds_agent.protocol.wire import WILDCARD
from xds_agent.snapshot.resource import Resource

# A name the client was told does not exist; no content hash is empty.
ABSENT = ""
# A client that never answers must not grow our memory; older answers than this many are stale (rule 5).
_IN_FLIGHT_MAX = 256

Versions = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one request said. `answered` holds name -> version (None: removal) of the response it answers, or
    is None when it answers none; `refusal` has its words when that answer is a NACK."""

    first: bool
    asked: Asked
    answered: Versions | None = None
    refusal: str | None = None
    nonce: str = ""


@dataclass(slots=True)
class DeltaState:
    """One type on one delta stream."""

    type_url: str
    legacy: bool = True
    subscription: Subscription = field(init=False)
    # name -> version the client holds or has been sent; ABSENT when it was told there is none.
    known: dict[str, str] = field(default_factory=dict)
    # name -> version the client has acknowledged.
    acked: dict[str, str] = field(default_factory=dict)
    in_flight: dict[str, Versions] = field(default_factory=dict)
    _owed_removals: set[str] = field(default_factory=set)
    seen: bool = False
    _owes_answer: bool = False

    def __post_init__(self) -> None:
        self.subscription = Subscription(legacy=self.legacy)

    def hear(self, request: Any) -> Heard:
        """Take a DeltaDiscoveryRequest of this type. Its subscription changes count whatever else it says:
        in a NACK (rule 3) and beside a stale nonce (rule 5)."""
        first, self.seen = not self.seen, True
        nonce = request.response_nonce
        answered = self.in_flight.pop(nonce, None) if nonce else None
        refusal = None
        if request.HasField("error_detail"):
            # Rule 2: this and nothing else makes a NACK. `known` keeps what was sent, so that the same
            # content is not sent again (rule 4); its good parts were applied anyway (rule 22).
            refusal = request.error_detail.message or "refused without words"
        elif answered is not None:
            self._acknowledge(answered)
        asked = self.subscription.update(request.resource_names_subscribe, request.resource_names_unsubscribe)
        if first:
            self.known = dict(request.initial_resource_versions)
            self.acked = dict(self.known)
            self._owes_answer = self.subscription.wildcard and not self.known
        else:
            self._apply(asked)
        return Heard(first, asked, answered, refusal, nonce)

    def due_of(self, view: Mapping[str, Resource], names: Iterable[str]) -> tuple[list[str], list[str]]:
        """What `due` says, of these subscribed names alone."""
        ordered = sorted(names)
        update = [n for n in ordered if n in view and self.known.get(n) != view[n].version]
        return update, [n for n in ordered if n not in view and self.known.get(n) != ABSENT]

    def due(self, view: Mapping[str, Resource]) -> tuple[list[str], list[str]]:
        """Names to send and names to remove, sorted, for this client to hold what `view` says."""
        wanted: Iterable[str]
        wanted = view if self.subscription.wildcard else self.subscription.names & view.keys()
        known = self.known
        update = [name for name in wanted if known.get(name) != view[name].version]
        gone = {name for name, version in known.items() if version != ABSENT and name not in view}
        # Rule 11: a name that is asked for and does not exist is answered at once, and stays subscribed.
        gone |= {name for name in self.subscription.names if name not in view and name not in known}
        gone |= {name for name in self._owed_removals if name not in view}
        return sorted(update), sorted(gone)

    @property
    def owes_answer(self) -> bool:
        """A new wildcard subscription is answered even when there is nothing: the client waits for it."""
        return self._owes_answer

    def sent(self, nonce: str, update: Mapping[str, str], removed: Iterable[str]) -> None:
        """Note a response: name -> version of what was sent, and the names removed."""
        versions: dict[str, str | None] = dict(update)
        self.known.update(update)
        for name in update:
            self.acked.pop(name, None)
        for name in removed:
            versions[name] = None
            self.acked.pop(name, None)
            if name in self.subscription.names:
                self.known[name] = ABSENT
            else:
                self.known.pop(name, None)
        self._owed_removals.difference_update(versions)
        self._owes_answer = False
        self.in_flight[nonce] = versions
        while len(self.in_flight) > _IN_FLIGHT_MAX:
            del self.in_flight[next(iter(self.in_flight))]

    def _acknowledge(self, answered: Versions) -> None:
        for name, version in answered.items():
            if version is None:
                self.acked.pop(name, None)
            elif self.known.get(name) == version:
                self.acked[name] = version

    def _apply(self, asked: Asked) -> None:
        # Rule 9: a (re)subscribed name is sent even if unchanged.
        for name in asked.names:
            self.known.pop(name, None)
        for name in asked.dropped:
            self.known.pop(name, None)
            self.acked.pop(name, None)
            # Rule 10: under a wildcard the client is answered with the resource, or with its removal.
            if self.subscription.wildcard and name != WILDCARD:
                self._owed_removals.add(name)
        if asked.narrowed:
            names = self.subscription.names
            self.known = {name: version for name, version in self.known.items() if name in names}
        if asked.everything and not self.known:
            self._owes_answer = True
