"""What holds between two networks, in words of the command line and of the program. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction

from lab.errors import LabError

MILLION = 1_000_000
_US = timedelta(microseconds=1)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")

Direction = tuple[str, str]
"""(side the packets come from, side they go to)."""


@dataclass(frozen=True)
class Way:
    """What a packet of one direction meets."""

    delay_us: int = 0
    jitter_us: int = 0
    """Each packet takes up to so much less or more, but none overtakes an earlier one of its flow."""
    loss_ppm: int = 0
    rate_bps: int = 0
    """0: no bound."""

    @property
    def is_short(self) -> bool:
        return self == Way()


@dataclass(frozen=True)
class Met:
    """What packets of one direction met so far."""

    packets: int = 0
    lost: int = 0
    overflowed: int = 0
    """What a slow line had no room for."""
    late: int = 0
    """By more than a millisecond behind what was set."""

    def __add__(self, other: Met) -> Met:
        return Met(
            self.packets + other.packets, self.lost + other.lost, self.overflowed + other.overflowed,
            self.late + other.late,
        )  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What the command line says of a pair; None: stays as it is."""

    rtt: timedelta | None = None
    jitter: timedelta | None = None
    loss_ppm: int | None = None
    rate_bps: int | None = None

    @property
    def is_empty(self) -> bool:
        return self == Change()


Ways = Mapping[Direction, Way]
Sides = Mapping[str, Sequence[str]]
"""Side -> its ranges of addresses."""


def parse_loss(text: str) -> int:
    """'1%' -> packets lost of a million. Raises ValueError."""
    found = _PERCENT.fullmatch(text)
    if not found or Fraction(found[1]) > 100:
        raise ValueError(f"{text} is no share of packets: write a percentage, for example 1% or 0.5%")
    return round(Fraction(found[1]) * MILLION / 100)


def pair_of(text: str, sides: Iterable[str]) -> Direction:
    """'aws-gcp' -> its two sides. LabError names the sides there are."""
    known = sorted(sides)
    for one in known:
        for other in known:
            if one != other and text == f"{one}-{other}":
                return one, other
    raise LabError(
        f"{text} is no pair of the lab's networks", f"write two of {', '.join(known)}, for example aws-gcp"
    )


def changed(ways: Ways, pair: Direction, change: Change, *, one_way: bool = False) -> dict[Direction, Way]:
    """`ways` with a change of both directions of a pair (half the round trip each), or of the first alone."""
    found = dict(ways)
    directions = [pair] if one_way else [pair, pair[::-1]]
    for at in directions:
        way = found.get(at, Way())
        if change.rtt is not None:
            way = replace(way, delay_us=round(change.rtt / _US / len(directions)))
        if change.jitter is not None:
            way = replace(way, jitter_us=round(change.jitter / _US))
        if change.loss_ppm is not None:
            way = replace(way, loss_ppm=change.loss_ppm)
        if change.rate_bps is not None:
            way = replace(way, rate_bps=change.rate_bps)
        if way.jitter_us > way.delay_us:
            raise LabError(
                f"from {at[0]} to {at[1]} a jitter of {ms(way.jitter_us)} is more than the delay of "
                f"{ms(way.delay_us)}: a packet would arrive before it was sent",
                "make --rtt longer or --jitter smaller",
            )
        found[at] = way
    return {at: way for at, way in found.items() if not way.is_short}


def without(ways: Ways, pair: Direction) -> dict[Direction, Way]:
    """Both directions of a pair are short again."""
    return {at: way for at, way in ways.items() if at not in (pair, pair[::-1])}


def program(ways: Ways, sides: Sides) -> str:
    """The table as the program reads it."""
    return "".join(
        f"{source} {target} {way.delay_us} {way.jitter_us} {way.loss_ppm} {way.rate_bps}\n"
        for at, way in sorted(ways.items())
        for source in sides.get(at[0], ())
        for target in sides.get(at[1], ())
    )


def read(text: str, sides: Sides) -> dict[Direction, tuple[Way, Met]]:
    """What the program answers, by direction; ranges of networks that are gone are left out."""
    side_of = {range_: side for side, ranges in sides.items() for range_ in ranges}
    found: dict[Direction, tuple[Way, Met]] = {}
    for line in text.splitlines():
        source, target, *numbers = line.split()
        if source not in side_of or target not in side_of:
            continue
        at = (side_of[source], side_of[target])
        delay_us, jitter_us, loss_ppm, rate_bps, *counts = map(int, numbers)
        _, met = found.get(at, (Way(), Met()))
        found[at] = (Way(delay_us, jitter_us, loss_ppm, rate_bps), met + Met(*counts))
    return found


def ms(us: int) -> str:
    return f"{us / 1000:g} ms"


def percent(ppm: int) -> str:
    return f"{ppm * 100 / MILLION:g} %"
