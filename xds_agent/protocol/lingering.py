"""Lingering: clusters that nothing refers to any longer, and that requests on their way may still mean.

An acknowledged route is the route of the next request. One that Envoy has matched already, and that waits
for its turn, for an answer of a filter or for its retry, looks its cluster up later, and is answered 503 if
that is gone. So clusters stay a while, with what they refer to, after a set without them is active.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds_agent.snapshot.plan import Stage, clusters_go
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, SECRET, Resource

_Key = tuple[str, str]
_Named = Mapping[str, Mapping[str, Resource]]


class Lingering:
    """Names in two ages: what was young when time was up is old, what was old may go.

    So each stays for one to two lengths of the timer, and none for ever under a stream of changes.
    """

    def __init__(self) -> None:
        # Whether each was there already when time was up last.
        self._aged: dict[_Key, bool] = {}
        # Time is up: those may go as soon as nothing else is under way.
        self.ripe = False

    def __bool__(self) -> bool:
        return bool(self._aged)

    def note(self, later: Stage, held: _Named, view: _Named) -> None:
        """`held` is active and does without these; of those before, it may have taken some back, and a revert
        removed some from the Envoy's `view`."""
        leaving = [(p.type_url, name) for p in (*later.pushes, *later.forget) for name in p.remove]
        known = {**dict.fromkeys(leaving, False), **self._aged}
        self._aged = {
            (kind, name): aged
            for (kind, name), aged in known.items()
            if name not in held.get(kind, {}) and name in view.get(kind, {})
        }

    def names(self) -> dict[str, frozenset[str]]:
        """type url -> names: how the Envoy's set differs from the held one."""
        return {t: frozenset(_of(self._aged, t)) for t, _ in self._aged}

    def forget(self) -> None:
        """What the Envoy holds is another matter now."""
        self._aged, self.ripe = {}, False

    def take(self) -> Stage:
        """What goes now; the young ones are old from here on."""
        going = [key for key, aged in self._aged.items() if aged]
        self._aged = {key: True for key, aged in self._aged.items() if not aged}
        self.ripe = False
        return clusters_go(_of(going, CLUSTER), _of(going, ENDPOINTS), _of(going, SECRET))


def _of(keys: Iterable[_Key], type_url: str) -> tuple[str, ...]:
    return tuple(sorted(name for kind, name in keys if kind == type_url))
