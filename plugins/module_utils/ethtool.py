"""What `ethtool` and sysfs say of a network interface, as data. No Ansible here: it runs at boot too."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Run = Callable[[list[str]], tuple[int, str, str]]

# The words of `ethtool -k` that have a shorter one in `ethtool -K`; all other features are called the same.
SHORT = {
    "rx-checksumming": "rx",
    "tx-checksumming": "tx",
    "scatter-gather": "sg",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
    "generic-receive-offload": "gro",
    "large-receive-offload": "lro",
    "rx-vlan-offload": "rxvlan",
    "tx-vlan-offload": "txvlan",
    "ntuple-filters": "ntuple",
    "receive-hashing": "rxhash",
}
COALESCE = ("rx-usecs", "rx-frames", "tx-usecs", "tx-frames")


class NicError(Exception):
    """An interface that is not there, or a setting that it refuses; the words name both and the remedy."""


@dataclass(frozen=True)
class Feature:
    """An offload: whether it is on, and whether the driver lets anybody change that."""

    on: bool
    fixed: bool


@dataclass(frozen=True)
class Nic:
    """One interface as it is now. Empty mappings: the driver has nothing of the kind."""

    name: str
    driver: str
    mtu: int
    channels: dict[str, int] = field(default_factory=dict)
    channels_max: dict[str, int] = field(default_factory=dict)
    rings: dict[str, int] = field(default_factory=dict)
    rings_max: dict[str, int] = field(default_factory=dict)
    offloads: dict[str, Feature] = field(default_factory=dict)
    coalesce: dict[str, int] = field(default_factory=dict)
    adaptive: dict[str, bool] = field(default_factory=dict)
    # Receive queues over which RSS spreads; 0 where the driver has no table.
    rss_queues: int = 0


def limits_and_current(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """The two halves of `ethtool -g` and `ethtool -l`, maxima and current, without what is "n/a"."""
    limits, _, current = text.partition("Current hardware settings")
    return _numbers(limits), _numbers(current)


def _numbers(text: str) -> dict[str, int]:
    found = re.findall(r"^([A-Za-z ]+):\s+(\d+)\s*$", text, flags=re.MULTILINE)
    return {name.strip().lower().replace(" ", "-"): int(value) for name, value in found}


def features(text: str) -> dict[str, Feature]:
    """`ethtool -k` by the names that `ethtool -K` takes."""
    found = {}
    for line in text.splitlines():
        said = re.fullmatch(r"\s*([a-z0-9_-]+): (on|off)(?: \[(.*)\])?", line)
        if said:
            name = SHORT.get(said[1], said[1])
            found[name] = Feature(on=said[2] == "on", fixed="fixed" in (said[3] or ""))
    return found


def coalescing(text: str) -> tuple[dict[str, int], dict[str, bool]]:
    """`ethtool -c`: microseconds and frames, and whether the driver adapts them by itself."""
    numbers = {name: value for name, value in _numbers_of_dashes(text).items() if name in COALESCE}
    said = re.search(r"^Adaptive RX: (\S+)\s+TX: (\S+)", text, flags=re.MULTILINE)
    adaptive = {}
    for name, word in zip(("rx", "tx"), said.groups() if said else (), strict=False):
        if word in ("on", "off"):
            adaptive[name] = word == "on"
    return numbers, adaptive


def _numbers_of_dashes(text: str) -> dict[str, int]:
    found = re.findall(r"^([a-z-]+):\s+(\d+)\s*$", text, flags=re.MULTILINE)
    return {name: int(value) for name, value in found}


def rss_queues(text: str) -> int:
    """Queues that the indirection table of `ethtool -x` names; 0 where there is none."""
    table = text.partition("RSS hash key")[0]
    rows = re.findall(r"^\s*\d+:\s+((?:\d+\s*)+)$", table, flags=re.MULTILINE)
    return len({queue for row in rows for queue in row.split()})


def driver_of(text: str) -> str:
    """The driver's name in `ethtool -i`; "" where it is not said."""
    said = re.search(r"^driver: (\S+)", text, flags=re.MULTILINE)
    return said[1] if said else ""


def gather(name: str, run: Run, sysfs: Path = Path("/sys/class/net")) -> Nic:
    """The interface as it is; NicError if there is none, OSError without ethtool."""
    folder = sysfs / name
    if not folder.is_dir():
        there = ", ".join(sorted(one.name for one in sysfs.iterdir())) if sysfs.is_dir() else "none"
        raise NicError(f"no interface {name} on this host; there are: {there}")

    def said(option: str) -> str:
        code, out, _ = run(["ethtool", option, name])
        # -x fails half-way where the driver has a table and no key.
        return out if code == 0 or option == "-x" else ""

    channels_max, channels = limits_and_current(said("-l"))
    rings_max, rings = limits_and_current(said("-g"))
    numbers, adaptive = coalescing(said("-c"))
    return Nic(
        name=name,
        driver=driver_of(said("-i")),
        mtu=int((folder / "mtu").read_text(encoding="ascii")),
        channels=channels, channels_max=channels_max, rings=rings, rings_max=rings_max,
        offloads=features(said("-k")), coalesce=numbers, adaptive=adaptive, rss_queues=rss_queues(said("-x")),
    )  # fmt: skip
