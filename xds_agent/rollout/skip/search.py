"""Finds the bad parts of a change by bisection, from nothing but yes and no. Pure.

A generator: it yields sets of parts to be taken in, is sent what became of each, and returns the bad ones.
What is accepted stays taken in, so that of `k` bad parts among `n` about `k * log2(n)` trials are refused.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar


class Verdict(Enum):
    """What became of a trial."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    # It leads to what is not there: it does not stand without a part that is left out.
    DANGLING = "dangling"


P = TypeVar("P", bound=Hashable)
# Each trial, and what is sent for it.
Search = Generator[frozenset[P], Verdict, "Found[P]"]


@dataclass(frozen=True)
class Found(Generic[P]):
    """`good` is accepted as a whole; `bad` is each part left out with the trial that showed it."""

    good: frozenset[P]
    bad: Mapping[P, tuple[frozenset[P], Verdict]]


@dataclass
class _State(Generic[P]):
    good: frozenset[P] = frozenset()
    bad: dict[P, tuple[frozenset[P], Verdict]] = field(default_factory=dict)


def search(parts: Sequence[P]) -> Search[P]:
    """Parts that others lead to come before those. All of them together are known to be refused."""
    state: _State[P] = _State()
    yield from _split(state, tuple(parts), (frozenset(parts), Verdict.REFUSED))
    # What led to a part that came later may stand now, and so may what led to that.
    waiting = [part for part, (_, verdict) in state.bad.items() if verdict is Verdict.DANGLING]
    while waiting:
        before = len(waiting)
        for part in waiting:
            yield from _try(state, (part,))
        waiting = [part for part in waiting if part in state.bad and _dangles(state, part)]
        if len(waiting) == before:
            break
    return Found(state.good, dict(state.bad))


def _try(state: _State[P], group: tuple[P, ...]) -> Generator[frozenset[P], Verdict, None]:
    """Take the group in; what of it cannot be is bad."""
    trial = state.good | frozenset(group)
    verdict = yield trial
    if verdict is Verdict.ACCEPTED:
        state.good = trial
        for part in group:
            state.bad.pop(part, None)
    else:
        yield from _split(state, group, (trial, verdict))


def _split(
    state: _State[P], group: tuple[P, ...], shown: tuple[frozenset[P], Verdict]
) -> Generator[frozenset[P], Verdict, None]:
    """The group is known to hold something bad, by the trial `shown`."""
    if len(group) == 1:
        state.bad[group[0]] = shown
        return
    middle = len(group) // 2
    left, right = group[:middle], group[middle:]
    yield from _try(state, left)
    if not state.good.issuperset(left):
        yield from _try(state, right)
    else:
        # With the whole left taken in, the right is what made the group fail.
        yield from _split(state, right, shown)


def _dangles(state: _State[P], part: P) -> bool:
    return state.bad[part][1] is Verdict.DANGLING
