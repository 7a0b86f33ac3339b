"""Subscription: which names of one type one stream wants, by the wildcard rules of the protocol.

A first request that names nothing means everything; so does "*". Once a client has named anything, "*"
included, an empty list means nothing (rule 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xds_agent.protocol.wire import WILDCARD


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request changed. `names` were (re)subscribed, `dropped` unsubscribed; `everything` is true
    when the wildcard is new, `narrowed` when it ended."""

    names: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    everything: bool = False
    narrowed: bool = False

    def __bool__(self) -> bool:
        return bool(self.names or self.dropped or self.everything or self.narrowed)


class Subscription:
    """State of one type on one stream. `legacy` allows the unnamed first request to mean everything."""

    __slots__ = ("_legacy", "_seen", "names", "wildcard")

    def __init__(self, *, legacy: bool = True) -> None:
        self.wildcard = False
        self.names: set[str] = set()
        self._legacy = legacy
        self._seen = False

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def update(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> Asked:
        """A delta request: changes to the subscription."""
        wanted, unwanted = set(subscribe), set(unsubscribe)
        was, first = self.wildcard, not self._seen
        self._seen = True
        if first and self._legacy and not wanted:
            self.wildcard = True
        if WILDCARD in wanted:
            self.wildcard = True
        # Delta: naming something keeps a legacy wildcard; only unsubscribing from "*" ends it.
        if WILDCARD in unwanted:
            self.wildcard = False
        wanted.discard(WILDCARD)
        unwanted.discard(WILDCARD)
        self.names |= wanted
        self.names -= unwanted
        return Asked(
            names=frozenset(wanted - unwanted),
            dropped=frozenset(unwanted),
            everything=self.wildcard and not was,
            narrowed=was and not self.wildcard,
        )

    def replace(self, names: Iterable[str]) -> Asked:
        """A state-of-the-world request: the whole subscription."""
        wanted = set(names)
        was, before, first = self.wildcard, self.names, not self._seen
        self._seen = True
        if wanted:
            self._legacy = False
        if not wanted and self._legacy:
            # Never named anything: still everything.
            self.wildcard = True
        else:
            self.wildcard = WILDCARD in wanted
        wanted.discard(WILDCARD)
        self.names = wanted
        return Asked(
            names=frozenset(wanted if first else wanted - before),
            dropped=frozenset(before - wanted),
            everything=self.wildcard and not was,
            narrowed=was and not self.wildcard,
        )
