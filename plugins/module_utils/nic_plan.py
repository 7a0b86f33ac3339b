"""What has to change on an interface, as commands and as words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.marchproxy.edge.plugins.module_utils.ethtool import Nic, NicError, Run

MAX = "max"


@dataclass(frozen=True)
class Action:
    """One command that sets something, the one that puts back what was, and the words for people."""

    interface: str
    what: str
    before: str
    after: str
    command: tuple[str, ...]
    undo: tuple[str, ...]

    def line(self, value: str) -> str:
        """One line of a diff."""
        return f"{self.interface} {self.what}: {value}"


def plan(nic: Nic, wanted: Mapping[str, Any]) -> list[Action]:
    """Everything that differs, in the order in which drivers take it; NicError names all impossible wishes.

    Channels come first: changing them resets rings and RSS on several drivers. RSS comes last.
    """
    problems: list[str] = []
    steps = [
        *_counted(nic, wanted.get("channels"), "channels", nic.channels, nic.channels_max, "-L", problems),
        *_counted(nic, wanted.get("rings"), "rings", nic.rings, nic.rings_max, "-G", problems),
        *_mtu(nic, wanted.get("mtu")),
        *_offloads(nic, wanted.get("offloads") or {}, problems),
        *_coalesce(nic, wanted.get("coalesce") or {}, problems),
        *_rss(nic, wanted.get("rss_queues"), wanted.get("channels"), problems),
    ]
    if problems:
        raise NicError("; ".join(f"{nic.name} ({nic.driver or 'no driver'}): {words}" for words in problems))
    return steps


def _counted(
    nic: Nic, wanted: Mapping[str, Any] | None, noun: str, current: Mapping[str, int],
    limits: Mapping[str, int], option: str, problems: list[str],
) -> Iterator[Action]:  # fmt: skip
    """Channels or rings: all that differ in one command, since drivers judge them together."""
    changed: dict[str, int] = {}
    for key, value in (wanted or {}).items():
        if value is None:
            continue
        if key not in limits or key not in current:
            have = ", ".join(sorted(current)) or "none that can be set"
            problems.append(f"{noun}.{key}: the driver has no such {noun}; it has {have}")
            continue
        number = _number(value, limits[key], f"{noun}.{key}", problems)
        if number is not None and number != current[key]:
            changed[key] = number
    if changed:
        yield Action(
            nic.name, noun, _listed({key: current[key] for key in changed}), _listed(changed),
            ("ethtool", option, nic.name, *_words(changed)),
            ("ethtool", option, nic.name, *_words({key: current[key] for key in changed})),
        )  # fmt: skip


def _number(value: Any, limit: int, path: str, problems: list[str]) -> int | None:
    if value == MAX:
        return limit
    try:
        number = int(value)
    except (TypeError, ValueError):
        problems.append(f"{path}: {value!r} is neither a number nor {MAX!r}")
        return None
    if not 1 <= number <= limit:
        problems.append(f"{path}: {number} is not possible, the driver takes 1 to {limit}")
        return None
    return number


def _mtu(nic: Nic, wanted: int | None) -> Iterator[Action]:
    if wanted is not None and wanted != nic.mtu:
        command = ("ip", "link", "set", "dev", nic.name, "mtu")
        yield Action(
            nic.name, "mtu", str(nic.mtu), str(wanted), (*command, str(wanted)), (*command, str(nic.mtu))
        )


def _offloads(nic: Nic, wanted: Mapping[str, bool], problems: list[str]) -> Iterator[Action]:
    for name, on in sorted(wanted.items()):
        feature = nic.offloads.get(name)
        if feature is None:
            problems.append(f"offloads.{name}: no such offload (ethtool -k {nic.name} lists them)")
        elif feature.on != on and feature.fixed:
            problems.append(f"offloads.{name}: the driver keeps it {_word(feature.on)}; leave it out")
        elif feature.on != on:
            command = ("ethtool", "-K", nic.name, name)
            yield Action(
                nic.name, f"offload {name}", _word(feature.on), _word(on),
                (*command, _word(on)), (*command, _word(feature.on)),
            )  # fmt: skip


def _coalesce(nic: Nic, wanted: Mapping[str, Any], problems: list[str]) -> Iterator[Action]:
    changed: dict[str, tuple[str, str]] = {}
    for key, value in wanted.items():
        if value is None:
            continue
        name = key.replace("_", "-")
        if key.startswith("adaptive_"):
            side = key.removeprefix("adaptive_")
            if side not in nic.adaptive:
                problems.append(f"coalesce.{key}: the driver does not adapt by itself")
            elif nic.adaptive[side] != value:
                changed[name] = (_word(nic.adaptive[side]), _word(value))
        elif name not in nic.coalesce:
            problems.append(f"coalesce.{key}: the driver has no such setting")
        elif nic.coalesce[name] != int(value):
            changed[name] = (str(nic.coalesce[name]), str(value))
    if changed:
        before = {name: pair[0] for name, pair in changed.items()}
        after = {name: pair[1] for name, pair in changed.items()}
        command = ("ethtool", "-C", nic.name)
        yield Action(
            nic.name, "coalesce", _listed(before), _listed(after),
            (*command, *_words(after)), (*command, *_words(before)),
        )  # fmt: skip


def _rss(nic: Nic, wanted: Any, channels: Mapping[str, Any] | None, problems: list[str]) -> Iterator[Action]:
    if wanted is None:
        return
    if not nic.rss_queues:
        problems.append("rss_queues: the driver has no table to spread packets by")
        return
    will_be = {**nic.channels, **{k: v for k, v in (channels or {}).items() if v not in (None, MAX)}}
    queues = int(will_be.get("combined") or 0) or int(will_be.get("rx") or 0) or nic.rss_queues
    number = _number(wanted, queues, "rss_queues", problems)
    if number is not None and number != nic.rss_queues:
        command = ("ethtool", "-X", nic.name, "equal")
        yield Action(
            nic.name, "rss queues", str(nic.rss_queues), str(number),
            (*command, str(number)), (*command, str(nic.rss_queues)),
        )  # fmt: skip


def _word(on: bool) -> str:
    return "on" if on else "off"


def _listed(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {values[name]}" for name in sorted(values))


def _words(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(word for name in sorted(values) for word in (name, str(values[name])))


def carry_out(actions: list[Action], run: Run) -> None:
    """One after the other; NicError with the driver's words at the first that is refused."""
    for action in actions:
        code, out, err = run(list(action.command))
        if code:
            words = " ".join((err or out).split()) or f"exit code {code}"
            raise NicError(f"{action.interface}: {' '.join(action.command)}: {words}; all was put back")
