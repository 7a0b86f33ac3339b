"""Gathering: hearing an Envoy out that comes back with state, before anything is decided about it.

It opens with one request per type, each saying what it has. On a busy host they lie apart, and a type not yet
heard looks like one it lacks, so silence alone does not end the gathering. One request may even be withheld:
an Envoy that lost its server while a changed cluster warmed keeps CDS back until that is over, and waits for
endpoints it does not ask for again. They are the nudge.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds_agent.protocol.envoy_stream import EnvoyStream
from xds_agent.snapshot.plan import Push
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, ENVOY_TYPES, Snapshot

# CDS later than this, with an apply known to have been cut off, is withheld and not just slow.
_WITHHELD_S = 0.1
_UNHEARD_S = 2.0


class Gathering:
    """Of one stream. `unfinished` names the endpoint sets of clusters whose apply was cut off, if known."""

    def __init__(self, unfinished: Iterable[str], *, quiet_s: float) -> None:
        self._unfinished = frozenset(unfinished)
        self._quiet_s = quiet_s
        self._nudged = False

    def patience_s(self, stream: EnvoyStream, held: Snapshot) -> float:
        """How long to wait for another first request."""
        if all(stream.seen(t) for t in ENVOY_TYPES if held.of_type(t)):
            return self._quiet_s
        if self._withheld(stream) and self._unfinished:
            return _WITHHELD_S
        return _UNHEARD_S

    def nudge(self, stream: EnvoyStream, held: Snapshot) -> Push | None:
        """After that silence: endpoints that make Envoy go on; None when there is nothing to wait for."""
        if not self._withheld(stream):
            return None
        self._nudged = True
        asked = stream.state(ENDPOINTS).subscription.names
        names = asked & self._unfinished or asked
        ours = held.of_type(ENDPOINTS)
        push = Push(
            ENDPOINTS,
            tuple(sorted(name for name in names if name in ours)),
            tuple(sorted(name for name in names if name not in ours)),
        )
        return push if push else None

    def _withheld(self, stream: EnvoyStream) -> bool:
        return stream.seen(ENDPOINTS) and not stream.seen(CLUSTER) and not self._nudged
