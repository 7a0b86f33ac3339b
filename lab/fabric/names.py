"""What the clouds' DNS answers. Pure: who asks, who is well, and what the clouds keep goes in."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.fabric.routes import Asked, Probe
from xds_agent.steering.regions import REGIONS
from xds_agent.steering.world import great_circle_km

Place = tuple[str, str]
"""(cloud, region)."""
_MOST_ALIASES = 8


@dataclass(frozen=True)
class Endpoint:
    """An address, and the health check of it."""

    address: str
    probe: Probe | None


@dataclass(frozen=True)
class Choice:
    """One of the answers that a name has."""

    endpoints: tuple[Endpoint, ...]
    region: str | None
    """The keeper's region; None where answers are chosen by weight."""
    weight: int
    least: int
    """So many of its endpoints are well, or it is out."""
    whole: bool
    """Whether it is given as a whole; else what is not well is left out."""


@dataclass(frozen=True)
class Name:
    """A name with its choices, or one that stands for another."""

    name: str
    ttl_s: int
    cloud: str
    alias: str | None
    choices: tuple[Choice, ...]

    @property
    def window_s(self) -> int:
        """For how long clients feel the loss of a region: until it is noticed, and the TTL is over."""
        probes = [one.probe for choice in self.choices for one in choice.endpoints if one.probe]
        detection = max((probe.interval_s * (probe.unhealthy_after + 1) for probe in probes), default=0)
        return detection + self.ttl_s


@dataclass(frozen=True)
class Answer:
    """What a question met: aliases on the way, each with its time to live, and addresses with theirs."""

    aliases: tuple[tuple[str, int, str], ...]
    owner: str
    ttl_s: int
    addresses: tuple[str, ...]


def asked(names: Iterable[Name]) -> set[Asked]:
    """Every health check that is made."""
    return {
        (one.probe, one.address)
        for name in names
        for choice in name.choices
        for one in choice.endpoints
        if one.probe
    }


def answer(
    names: Mapping[str, Name],
    question: str,
    *,
    place: Place | None,
    well: Collection[Asked],
    pick: Callable[[Sequence[Choice]], Choice],
) -> Answer | None:
    """The answer to a client at ``place``; ``pick`` chooses by weight. None for a name that nobody keeps."""
    aliases: list[tuple[str, int, str]] = []
    known = names.get(question)
    while known is not None and known.alias is not None and len(aliases) < _MOST_ALIASES:
        aliases.append((known.name, known.ttl_s, known.alias))
        known = names.get(known.alias)
    if known is None:
        return None
    addresses = _addresses(known, place, well, pick) if known.choices else ()
    return Answer(tuple(aliases), known.name, known.ttl_s, addresses)


def _addresses(
    name: Name, place: Place | None, well: Collection[Asked], pick: Callable[[Sequence[Choice]], Choice]
) -> tuple[str, ...]:
    """All three clouds answer as if everybody were well where nobody is."""
    able = [choice for choice in name.choices if len(_good(choice, well)) >= choice.least]
    choices = able or list(name.choices)
    by_place = [choice for choice in choices if choice.region is not None]
    chosen = min(by_place, key=lambda one: _far(name, one, place)) if by_place else pick(choices)
    given = chosen.endpoints if chosen.whole or not able else _good(chosen, well)
    return tuple(one.address for one in given)


def _good(choice: Choice, well: Collection[Asked]) -> tuple[Endpoint, ...]:
    return tuple(one for one in choice.endpoints if one.probe is None or (one.probe, one.address) in well)


def _far(name: Name, choice: Choice, place: Place | None) -> tuple[float, str]:
    """How far a choice's region is from the client's; the same for all where one is not known."""
    there = REGIONS.get(name.cloud, {}).get(str(choice.region))
    here = REGIONS.get(place[0], {}).get(place[1]) if place else None
    return great_circle_km(here, there) if here and there else 0.0, str(choice.region)


def place_of(places: Mapping[str, Place], range_: str) -> Place | None:
    """Where clients of a range are ("203.0.113.0/24", or one address): where an address of it is."""
    network = ipaddress.ip_network(range_, strict=False)
    return next(
        (place for address, place in places.items() if ipaddress.ip_address(address) in network), None
    )
