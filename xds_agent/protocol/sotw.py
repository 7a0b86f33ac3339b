"""SotwState: one type on one state-of-the-world stream, as grpcio's own `xds:///` client speaks it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xds_agent.protocol.subscription import Subscription
from xds_agent.protocol.wire import sotw_response
from xds_agent.snapshot.resource import CLUSTER, LISTENER, Resource

# Rule 8: these carry the full set, and absence removes.
FULL_TYPES = frozenset({CLUSTER, LISTENER})


@dataclass(slots=True)
class SotwState:
    """What this client was sent of one type, and what it is owed."""

    type_url: str
    subscription: Subscription = field(default_factory=Subscription)
    known: dict[str, str] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""
    refusal: str = ""
    _seen: bool = False
    # Newly asked names, which are answered even if unchanged (rules 9 and 21).
    _asked: set[str] = field(default_factory=set)
    _owes_answer: bool = False
    _claims: str = ""

    def hear(self, request: Any) -> None:
        """Take a DiscoveryRequest of this type. Names count whatever else it says (rules 3 and 5); only
        error_detail makes a NACK (rule 2), and nothing is resent for it (rule 4)."""
        first, self._seen = not self._seen, True
        if request.response_nonce == self.nonce and self.nonce:
            self.refusal = request.error_detail.message if request.HasField("error_detail") else ""
        asked = self.subscription.replace(request.resource_names)
        self._asked |= asked.names
        self._asked -= asked.dropped
        for name in asked.dropped:
            self.known.pop(name, None)
        if self._full and asked.dropped:
            self.version = self._version_of(self.known)
        if first:
            self._owes_answer = True
            # An equal full set need not be repeated; all else is answered, or warming hangs (rule 21).
            self._claims = request.version_info if self._full else ""
        elif asked.everything or (self._full and asked.names):
            self._owes_answer = True

    def forget(self, names: Iterable[str]) -> None:
        """Send these again although unchanged (rule 13)."""
        for name in names:
            self.known.pop(name, None)

    def response(self, view: Mapping[str, Resource], nonce: str) -> tuple[bytes, tuple[str, ...]] | None:
        """The response that is due, with the names in it that are new or changed; None when nothing is."""
        names = set(view) if self.subscription.wildcard else self.subscription.names & view.keys()
        wanted = {name: view[name].version for name in names}
        changed = tuple(sorted(n for n, v in wanted.items() if self.known.get(n) != v or n in self._asked))
        version = self._version_of(wanted)
        claims, self._claims = self._claims, ""
        if self._full:
            if not self._owes_answer and version == self.version:
                return None
            sending = sorted(wanted)
        else:
            sending = list(changed)
        owed, self._owes_answer = self._owes_answer, False
        self._asked.clear()
        self.known = wanted if self._full else {**self.known, **wanted}
        self.version = version
        if claims == version and owed:
            return None
        if not sending and not self._full:
            # Absence says nothing here: an empty answer would only be acknowledged.
            return None
        self.nonce = nonce
        return sotw_response(self.type_url, version, nonce, (view[name] for name in sending)), changed

    @property
    def _full(self) -> bool:
        return self.type_url in FULL_TYPES

    def _version_of(self, versions: Mapping[str, str]) -> str:
        text = "|".join(f"{name}={versions[name]}" for name in sorted(versions))
        return hashlib.blake2b(f"{self.type_url}|{text}".encode(), digest_size=12).hexdigest()
