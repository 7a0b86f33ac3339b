"""Which CPUs serve which queue of an interface: interrupts, RPS, XPS. It runs at boot too, without Ansible.

Queue N is served by the N-th CPU of the interface's own NUMA node, round and round: its interrupt goes there,
and what that CPU sends leaves by the queue of the same number. Where a device has fewer receive queues than
its node has CPUs, RPS spreads the packets over the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Names of queue interrupts in /proc/interrupts: virtio2-input.0, ens5-Tx-Rx-3, mlx5_comp2@pci:..., eth0-rx-1.
_QUEUE = re.compile(r"(?:tx-?rx|rx|tx|input|output|comp|queue|q)[-.]?(\d+)(?:@.*)?$", re.IGNORECASE)


class AffinityError(Exception):
    """An interface that is not there, or CPUs that do not exist."""


@dataclass(frozen=True)
class Setting:
    """A file of the kernel, what it says, and what it should say."""

    interface: str
    what: str
    path: str
    before: str
    after: str

    def line(self, value: str) -> str:
        return f"{self.interface} {self.what}: {value or 'none'}"


@dataclass(frozen=True)
class Queues:
    """What of an interface can be steered. Values are those of the kernel's files, in its own notation."""

    name: str
    numa_node: int
    local_cpus: tuple[int, ...]
    # Interrupt number -> (queue, CPUs as a list such as "0-3").
    interrupts: Mapping[int, tuple[int, str]]
    # Queue -> CPUs as a hexadecimal mask.
    rps: Mapping[int, str]
    xps: Mapping[int, str]


def cpus_of(text: str) -> tuple[int, ...]:
    """ "0-2,5" as numbers; AffinityError for anything else."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise AffinityError(f"{text!r} is no list of CPUs (such as 0-3,8)")
        found += range(int(low), int(high or low) + 1)
    return tuple(found)


def mask_of(cpus: Sequence[int]) -> str:
    """CPUs as the kernel writes a mask: hexadecimal, groups of 32 bits."""
    bits = sum(1 << cpu for cpu in set(cpus))
    groups = []
    while True:
        groups.append(bits & 0xFFFFFFFF)
        bits >>= 32
        if not bits:
            break
    first, *rest = reversed(groups)
    return ",".join([f"{first:x}", *(f"{one:08x}" for one in rest)])


def same_mask(one: str, other: str) -> bool:
    """The kernel pads masks with zeros to the number of CPUs that could exist."""
    return int(one.replace(",", "") or "0", 16) == int(other.replace(",", "") or "0", 16)


def queue_interrupts(interrupts: str, numbers: Sequence[int]) -> dict[int, int]:
    """Those of `numbers` that /proc/interrupts calls a queue's, with the queue's number."""
    found = {}
    for line in interrupts.splitlines():
        number, _, rest = line.strip().partition(":")
        if not number.isdigit() or int(number) not in numbers:
            continue
        name = rest.split()[-1] if rest.split() else ""
        queue = _QUEUE.search(name)
        if queue:
            found[int(number)] = int(queue[1])
    return found


def plan(queues: Queues, cpus: Sequence[int] | None = None) -> list[Setting]:
    """Every file that has to say something else. `cpus`: instead of those of the interface's NUMA node."""
    serving = tuple(cpus) if cpus else queues.local_cpus
    if not serving:
        return []

    def at(queue: int) -> int:
        return serving[queue % len(serving)]

    found = [
        Setting(queues.name, f"interrupt {number} (queue {queue})", f"/proc/irq/{number}/smp_affinity_list",
                is_now, str(at(queue)))
        for number, (queue, is_now) in sorted(queues.interrupts.items())
        if cpus_of(is_now) != (at(queue),)
    ]  # fmt: skip
    spread = len(queues.rps) < len(serving)
    for queue, is_now in sorted(queues.rps.items()):
        wanted = mask_of(serving) if spread else "0"
        if not same_mask(is_now, wanted):
            path = f"/sys/class/net/{queues.name}/queues/rx-{queue}/rps_cpus"
            found.append(Setting(queues.name, f"rps of rx-{queue}", path, is_now, wanted))
    for queue, is_now in sorted(queues.xps.items()):
        # One queue takes all: then there is nothing to choose, and the kernel refuses a map.
        wanted = mask_of([cpu for at, cpu in enumerate(serving) if at % len(queues.xps) == queue])
        if len(queues.xps) > 1 and not same_mask(is_now, wanted):
            path = f"/sys/class/net/{queues.name}/queues/tx-{queue}/xps_cpus"
            found.append(Setting(queues.name, f"xps of tx-{queue}", path, is_now, wanted))
    return found


def gather(name: str, root: Path = Path("/")) -> Queues:
    """The interface's queues as the kernel shows them; AffinityError if there is no such interface."""
    folder = root / "sys/class/net" / name
    if not folder.is_dir():
        there = ", ".join(sorted(one.name for one in (root / "sys/class/net").glob("*"))) or "none"
        raise AffinityError(f"no interface {name} on this host; there are: {there}")
    node = int(_text(folder / "device/numa_node") or "-1")
    local = _text(folder / "device/local_cpulist") or _text(root / "sys/devices/system/cpu/online")
    numbers = [int(one.name) for one in _interrupt_files(folder)]
    queues = queue_interrupts(_text(root / "proc/interrupts"), numbers)
    return Queues(
        name=name,
        numa_node=max(node, 0),
        local_cpus=cpus_of(local),
        interrupts={
            number: (queue, _text(root / f"proc/irq/{number}/smp_affinity_list"))
            for number, queue in queues.items()
        },
        rps=_masks(folder, "rx", "rps_cpus"),
        xps=_masks(folder, "tx", "xps_cpus"),
    )


def apply(settings: Sequence[Setting], root: Path = Path("/")) -> list[str]:
    """Write them; the words of each that the kernel refuses (an interrupt that the device manages itself)."""
    refused = []
    for one in settings:
        try:
            (root / one.path.lstrip("/")).write_text(one.after, encoding="ascii")
        except OSError as error:
            refused.append(f"{one.interface} {one.what}: {error.strerror} ({one.path})")
    return refused


def numa_nodes(root: Path = Path("/")) -> tuple[int, ...]:
    """Numbers of the NUMA nodes that have memory."""
    return tuple(
        sorted(int(one.name[4:]) for one in (root / "sys/devices/system/node").glob("node[0-9]*"))
    ) or (0,)


def _interrupt_files(folder: Path) -> list[Path]:
    # A virtio device stands below the PCI device that has the interrupts.
    for place in (folder / "device/msi_irqs", folder / "device/../msi_irqs"):
        if place.is_dir():
            return [one for one in place.iterdir() if one.name.isdigit()]
    return []


def _masks(folder: Path, side: str, file: str) -> dict[int, str]:
    found = {}
    for one in (folder / "queues").glob(f"{side}-*"):
        try:
            found[int(one.name.partition("-")[2])] = (one / file).read_text(encoding="ascii").strip()
        except OSError:
            continue  # xps_cpus cannot be read where there is one queue only
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
