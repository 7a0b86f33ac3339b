"""Which reals a ring leads to: the first priority with a healthy one takes everything. Pure but for files."""

from __future__ import annotations

import contextlib
import json
import logging
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.maglev import SLOTS, Reals, Ring, populate
from xds_agent.datapath.maglev_program import MaglevProgram
from xds_agent.node.datapath.wanted import RealKey, WantedReal

log = logging.getLogger(__name__)

_SLOT_BYTES = 8
_NUMBERS = "numbers.json"
_KEPT_TABLES = 4
_Recipe = tuple[tuple[int, str, int], ...]
"""Number, name and weight of each real."""
_Made = TypeVar("_Made")


def eligible(reals: tuple[WantedReal, ...], healthy: Callable[[RealKey], bool]) -> tuple[WantedReal, ...]:
    """Those that get new flows: healthy, not drained, of the first priority that has any."""
    able = [one for one in reals if one.weight and healthy(one.key)]
    first = min((one.priority for one in able), default=0)
    found = tuple(one for one in able if one.priority == first)
    # The very tuple where it says the same: thousands are kept.
    return reals if found == reals else found


class RingMaker:
    """Tables of rings: the real of each slot; and rings that have gone to one. For one thread at a time.

    Made by the programs in the file `program`, loaded when they are needed first; where they cannot be, in
    Python: the same ones, which takes longer.
    """

    def __init__(self, program: Path | None = None) -> None:
        self._path = program
        self._program: MaglevProgram | None = None
        # In words, what it was to be made by and cannot be; "" while it can.
        self.missing = ""
        self._made: OrderedDict[_Recipe, array[int]] = OrderedDict()

    def table_of(self, reals: Sequence[WantedReal], number_of: Callable[[RealKey], int]) -> array[int]:
        """Zeros without any. Services with the same reals get the same table, made once."""
        if len(reals) == 1:
            return array("I", [number_of(reals[0].key)]) * SLOTS
        recipe = tuple((number_of(one.key), str(one.key), one.weight) for one in reals)
        if (table := self._made.get(recipe)) is None:
            table = self._make({number: (name, weight) for number, name, weight in recipe})
            self._made[recipe] = table
            if len(self._made) > _KEPT_TABLES:
                self._made.popitem(last=False)
        return table

    def _make(self, reals: Reals) -> array[int]:
        made = self._by_program(lambda program: program(reals))
        return array("I", populate(reals)) if made is None else made

    def step(self, ring: Ring, table: array[int]) -> Ring:
        """The ring after a step to this table; `ring` itself may be that."""
        stepped = self._by_program(lambda program: program.step(ring, table))
        if stepped is not None:
            return stepped
        ring.step(table)
        return ring

    def _by_program(self, make: Callable[[MaglevProgram], _Made]) -> _Made | None:
        """None where it is to be made in Python."""
        try:
            if self._program is None and self._path is not None:
                self._program = MaglevProgram(self._path)
            if self._program is not None:
                return make(self._program)
        except (Unavailable, OSError) as error:
            self.missing = f"rings are made by the agent itself, which takes longer: {error}"
            log.warning("%s", self.missing)
            self.close()
        return None

    def close(self) -> None:
        if self._program is not None:
            self._program.close()
        self._path = self._program = None


class RingFiles:
    """Rings as the program reads them, beside the pins: a restarted agent goes on from the very slots.

    The folder has the life of the maps (/run), and reading a map within a map would need CAP_SYS_ADMIN.
    Rings that are alike are one file with several names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # What lies in the files, as far as this process knows, both ways.
        self._digests: dict[int, bytes] = {}
        self._alike: dict[bytes, set[int]] = {}

    def read(self, number: int) -> Ring | None:
        """The ring of that number, None where there is none or not a whole one."""
        try:
            words = (self._folder / str(number)).read_bytes()
        except OSError:
            return None
        if len(words) != SLOTS * _SLOT_BYTES:
            return None
        # What this process wrote is not read again to know what it is.
        ring = Ring.of_words(words, self._digests.get(number, b""))
        self._know(number, ring.digest())
        return ring

    def inode(self, number: int) -> int:
        """The same for names of one file; 0 where there is none."""
        try:
            return (self._folder / str(number)).stat().st_ino
        except OSError:
            return 0

    def adopt(self, number: int, *, like: int) -> None:
        """Two names of one file, which was read by the name `like`."""
        self._know(number, self._digests[like])

    def write(self, number: int, ring: Ring) -> None:
        """Before the map is written: what may be live is on file. Raises OSError; then it is what was."""
        digest = ring.digest()
        if self._digests.get(number) == digest:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"{number}.new"
        self._forget(number)
        # Whoever was killed before `replace` may have left a second name of another ring's file.
        fresh.unlink(missing_ok=True)
        if not self._linked(fresh, digest):
            fresh.write_bytes(ring.words())
        fresh.replace(self._folder / str(number))
        # Where both were names of one file already, `replace` leaves the new one; at the latest the next
        # write takes it away.
        with contextlib.suppress(OSError):
            fresh.unlink()
        self._know(number, digest)

    def _linked(self, fresh: Path, digest: bytes) -> bool:
        other = next(iter(self._alike.get(digest, ())), None)
        if other is None:
            return False
        try:
            fresh.hardlink_to(self._folder / str(other))
        except OSError:
            # Too many names for one file, or somebody took it away.
            return False
        return True

    def _know(self, number: int, digest: bytes) -> None:
        self._forget(number)
        self._digests[number] = digest
        self._alike.setdefault(digest, set()).add(number)

    def _forget(self, number: int) -> None:
        digest = self._digests.pop(number, None)
        if digest is not None:
            self._alike[digest].discard(number)
            if not self._alike[digest]:
                del self._alike[digest]

    def numbers(self) -> dict[str, Any]:
        """What `write_numbers` wrote last, {} where there is none or it has another form."""
        try:
            found = json.loads((self._folder / _NUMBERS).read_bytes())
            return {
                "services": {str(name): int(number) for name, number in found["services"].items()},
                "rings": [(str(name), int(version), int(number)) for name, version, number in found["rings"]],
                "reals": [
                    (str(ip_address(address)), int(port), int(number), bytes.fromhex(mac).hex(), str(state))
                    for address, port, number, mac, state in found["reals"]
                ],
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def write_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Of services, rings and reals: for a program whose tables have another layout. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f"{_NUMBERS}.new"
        fresh.write_text(json.dumps(numbers), encoding="ascii")
        fresh.replace(self._folder / _NUMBERS)

    def forget(self, number: int) -> None:
        self._forget(number)
        with contextlib.suppress(OSError):
            (self._folder / str(number)).unlink()
