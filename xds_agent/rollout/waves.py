"""In which waves a change goes to the fleet. Pure: who stands where and who is sick in, names out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from xds_agent.model import Host, Rollout

# More names than this help nobody.
_SHOWN = 6


@dataclass(frozen=True)
class WavePlan:
    """Who gets the change when. Every proxy it touches is in exactly one wave or left out."""

    waves: tuple[tuple[str, ...], ...]
    # Sick before the change: name -> why. They get it last, and nobody waits for them.
    left_out: Mapping[str, str] = field(default_factory=dict)
    soak_s: float = 0.0
    tolerate: int = 0

    @property
    def least_s(self) -> float:
        """What the soaking alone takes; the acknowledgements come on top, milliseconds each as a rule."""
        return self.soak_s * max(0, len(self.waves) - 1)

    def lines(self) -> list[str]:
        """For people, before anything starts; nothing to say of one wave with nobody left out."""
        said = []
        if len(self.waves) > 1:
            sizes = "; then ".join(_named(wave) for wave in self.waves)
            said.append(f"{len(self.waves)} waves, {self.least_s:g} s of soaking in all: {sizes}")
        said += [
            f"{name} is left out of the waves ({why}) and converges later"
            for name, why in sorted(self.left_out.items())
        ]
        return said


def plan_waves(
    rollout: Rollout,
    touched: Collection[str],
    hosts: Mapping[str, Host],
    *,
    sick: Mapping[str, str],
    newcomers: Collection[str] = (),
) -> WavePlan:
    """Waves over the proxies that a change touches.

    A number is that many of each role in each cloud, a share is one of all touched proxies, rounded up; both
    count who went before. `newcomers` hold nothing yet: with nothing to lose they go with the first wave and
    are not counted. `sick` proxies are left out. Shares take every cloud and role in proportion.
    """
    left_out = {name: sick[name] for name in touched if name in sick}
    fresh = sorted(set(newcomers) & set(touched) - left_out.keys())
    order = _spread([name for name in touched if name not in left_out and name not in fresh], hosts)
    waves: list[tuple[str, ...]] = []
    gone: list[str] = []
    for size in rollout.waves:
        already = set(gone)
        if isinstance(size, int):
            wave = _of_each(size, order, already, hosts)
        else:
            goal = math.ceil(Fraction(size.removesuffix("%")) * len(order) / 100)
            wave = [name for name in order if name not in already][: max(0, goal - len(gone))]
        gone += wave
        if not waves:
            wave = [*fresh, *wave]
        if wave:
            waves.append(tuple(wave))
    rest = tuple(name for name in order if name not in set(gone))
    if rest:
        waves.append(rest)
    return WavePlan(tuple(waves), left_out, rollout.soak.total_seconds(), rollout.tolerate)


def one_of_each(names: Collection[str], hosts: Mapping[str, Host]) -> list[str]:
    """The fewest of these proxies, greedily, in which each role in each cloud is found."""
    return _of_each(1, _spread(names, hosts), (), hosts)


def _of_each(
    count: int, order: Sequence[str], already: Collection[str], hosts: Mapping[str, Host]
) -> list[str]:
    """The fewest of `order`, greedily, that make `count` of each role in each cloud with those before."""
    have: dict[tuple[str, str | None], int] = {}
    for name in already:
        for kind in _kinds(name, hosts):
            have[kind] = have.get(kind, 0) + 1
    chosen = []
    for name in order:
        kinds = _kinds(name, hosts)
        if name in already or all(have.get(kind, 0) >= count for kind in kinds):
            continue
        chosen.append(name)
        for kind in kinds:
            have[kind] = have.get(kind, 0) + 1
    return chosen


def _kinds(name: str, hosts: Mapping[str, Host]) -> list[tuple[str, str | None]]:
    host = hosts.get(name)
    if host is None:
        return [("", None)]
    return [(role, host.cloud) for role in sorted(host.roles - {"control"})] or [("", host.cloud)]


def _spread(names: Iterable[str], hosts: Mapping[str, Host]) -> list[str]:
    """In an order of which every beginning holds each kind of host in proportion; always the same one."""
    kinds: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
    for name in sorted(names):
        kinds.setdefault(tuple(_kinds(name, hosts)), []).append(name)
    placed = [
        ((index + 0.5) / len(members), name)
        for members in kinds.values()
        for index, name in enumerate(members)
    ]
    return [name for _, name in sorted(placed)]


def _named(wave: Sequence[str]) -> str:
    shown = ", ".join(wave[:_SHOWN])
    more = f" and {len(wave) - _SHOWN} more" if len(wave) > _SHOWN else ""
    return f"{len(wave)} ({shown}{more})"
