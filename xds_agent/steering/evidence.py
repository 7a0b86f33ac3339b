"""What nodes say they measured, taken together: by medians and majorities one that lies changes nothing.

Times are those of the one who listens: a node with a wrong clock measures as well as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from xds_agent.steering.asking import Ask, Assignments
from xds_agent.steering.deciding import At, Known
from xds_agent.steering.rtt import LONGEST_MS, Rtt, combined
from xds_agent.steering.site import Scene
from xds_agent.steering.world import Region

T = TypeVar("T")

STALE_S = 35.0
"""A node that said nothing for three heartbeats knows nothing."""
_WORDS_MOST = 500


@dataclass(frozen=True, slots=True)
class Word:
    """What one node last said of one question."""

    healthy: bool | None = None
    rtt: Rtt = field(default_factory=Rtt)
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    words: str = ""
    heard_s: float = 0.0


class Evidence:
    """Words of all nodes about what they are to measure; anything else is not listened to."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, Ask], Word] = {}
        self._ids: dict[str, dict[int, Ask]] = {}
        self._scene: Scene | None = None
        self._dirty: set[At] = set()
        self.known = Known()

    def follow(self, scene: Scene) -> None:
        """From now on listen to what this scene asks."""
        self._scene = scene
        self._ids = {node: {ask.id: ask for ask in asks} for node, asks in scene.assignments.items()}
        wanted: Assignments = scene.assignments
        self.words = {key: word for key, word in self.words.items() if key[1] in wanted.get(key[0], ())}
        self.known = Known(load_rps=self.known.load_rps)
        self._dirty = {
            (scene.place_of[node], ask) for node, asks in wanted.items() for ask in asks
            if (node, ask) in self.words
        }  # fmt: skip

    def hear(
        self, node: str, ask_id: int, now_s: float, *, healthy: bool | None, samples_ms: Iterable[float] = (),
        p50_ms: float = 0.0, p95_ms: float = 0.0, words: str = "",
    ) -> None:  # fmt: skip
        """Take a node's word of one question; of questions it was not asked nothing is taken."""
        ask = self._ids.get(node, {}).get(ask_id)
        if ask is None or self._scene is None:
            return
        rtt = self.words.get((node, ask), Word()).rtt
        for sample in samples_ms:
            rtt = rtt.after(sample, now_s)
        self.words[node, ask] = Word(
            healthy, rtt, _possible(p50_ms), _possible(p95_ms), words[:_WORDS_MOST], now_s
        )
        self._dirty.add((self._scene.place_of[node], ask))

    def grow_old(self, now_s: float) -> None:
        """What was heard too long ago counts no more."""
        if self._scene is None:
            return
        for (node, ask), word in self.words.items():
            if now_s - word.heard_s > STALE_S and (word.healthy is not None or word.rtt.samples):
                self._dirty.add((self._scene.place_of[node], ask))

    def settle(self, now_s: float) -> tuple[set[At], set[At]]:
        """Bring `known` up to date: (whose health is another now, whose round trip is)."""
        dirty, self._dirty = self._dirty, set()
        turned: set[At] = set()
        moved: set[At] = set()
        if not dirty:
            return turned, moved
        health, rtts = dict(self.known.health), dict(self.known.rtts)
        for at in dirty:
            place, ask = at
            fresh = [word for word in self.of(place, ask) if now_s - word.heard_s <= STALE_S]
            verdict = majority(word.healthy for word in fresh)
            estimate = combined(word.rtt.at(now_s) for word in fresh)
            if health.get(at) != verdict:
                turned.add(at)
            if rtts.get(at) != estimate:
                moved.add(at)
            _set(health, at, verdict)
            _set(rtts, at, estimate)
        if turned or moved:
            self.known = Known(health, rtts, self.known.load_rps)
        return turned, moved

    def loads(self, load_rps: Mapping[str, float]) -> None:
        """Requests a second of each service."""
        self.known = Known(self.known.health, self.known.rtts, load_rps)

    def of(self, place: Region, ask: Ask) -> list[Word]:
        """Words of every node of a place about a question."""
        if self._scene is None:
            return []
        nodes = self._scene.nodes_at.get(place, ())
        return [word for node in nodes if (word := self.words.get((node, ask))) is not None]


def _possible(ms: float) -> float:
    """0 for what no round trip can take: NaN would make every answer about routes fail."""
    return ms if 0.0 < ms <= LONGEST_MS else 0.0


def majority(verdicts: Iterable[bool | None]) -> bool | None:
    """What most of those say that know; None when as many say one as the other, or nobody knows."""
    known = [one for one in verdicts if one is not None]
    well = sum(known)
    return None if 2 * well == len(known) else 2 * well > len(known)


def _set(into: dict[At, T], at: At, value: T | None) -> None:
    if value is None:
        into.pop(at, None)
    else:
        into[at] = value
