"""Who uses which real, front and ring, kept from one revision to the next: an edit of one service among
thousands is about that service alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from xds_agent.node.datapath.ring_store import OF_DSR, RingKey
from xds_agent.node.datapath.wanted import Address, Front, RealKey, WantedService, differing


@dataclass(frozen=True, slots=True)
class Use:
    """Of a real by one service."""

    weight: int
    sent_to: bool


@lru_cache(maxsize=256)
def _use(weight: int, sent_to: bool) -> Use:
    """The same object for the same use: services by the thousand differ in few weights."""
    return Use(weight, sent_to)


@dataclass(slots=True)
class Changed:
    """What differs from the revision before; `fronts` and `rings` are of nobody any more."""

    services: set[str] = field(default_factory=set)
    reals: set[RealKey] = field(default_factory=set)
    fronts: set[Front] = field(default_factory=set)
    rings: set[RingKey] = field(default_factory=set)


class Index:
    """Of the services that `bring` was given last."""

    def __init__(self) -> None:
        self.services: Mapping[str, WantedService] = {}
        self.users: dict[RealKey, dict[str, Use]] = {}
        self.fronts: dict[Front, str] = {}
        self.rings: set[RingKey] = set()
        self.fronts_of_version = {4: 0, 6: 0}
        # Fronts of nat services by address.
        self.translated: Counter[Address] = Counter()

    def bring(self, services: Mapping[str, WantedService]) -> Changed:
        """Services that are the very objects they were are not looked at. `services` must not change."""
        before, changed = self.services, Changed()
        differ = differing(before, services)
        for name in differ & before.keys():
            self._take_out(before[name], changed)
        for name in differ & services.keys():
            self._put_in(services[name], changed)
        changed.services = set(differ)
        self.services = services
        return changed

    def _take_out(self, one: WantedService, changed: Changed) -> None:
        for real in one.reals:
            changed.reals.add(real.key)
            users = self.users.get(real.key, {})
            users.pop(one.name, None)
            if not users:
                self.users.pop(real.key, None)
        for front in one.fronts:
            if self.fronts.get(front) == one.name:
                del self.fronts[front]
                self.fronts_of_version[front.address.version] -= 1
                changed.fronts.add(front)
        if one.forward == "nat":
            for front in one.fronts:
                # Not `-=`, which walks over all addresses.
                self.translated[front.address] -= 1
                if not self.translated[front.address]:
                    del self.translated[front.address]
        gone = set(ring_keys(one))
        self.rings -= gone
        changed.rings |= gone

    def _put_in(self, one: WantedService, changed: Changed) -> None:
        for real in one.reals:
            changed.reals.add(real.key)
            users = self.users.setdefault(real.key, {})
            weight = max(real.weight, users[one.name].weight if one.name in users else 0)
            users[one.name] = _use(weight, one.forward != "echo")
        for front in one.fronts:
            if front not in self.fronts:
                self.fronts_of_version[front.address.version] += 1
            self.fronts[front] = one.name
            changed.fronts.discard(front)
        if one.forward == "nat":
            self.translated.update(front.address for front in one.fronts)
        come = set(ring_keys(one))
        self.rings |= come
        changed.rings -= come


def ring_keys(one: WantedService) -> list[RingKey]:
    """The rings a service needs."""
    if not one.balanced:
        return []
    return list(dict.fromkeys(ring_key(one, front.address.version) for front in one.fronts))


def ring_key(one: WantedService, version: int) -> RingKey:
    """A service that is forwarded in another way gets another ring, so that no packet goes the old way to a
    real of the new one."""
    if one.forward in ("gue", "echo"):
        return one.name, 0
    return one.name, version + (OF_DSR if one.forward == "dsr" else 0)
