"""The program on this host's interfaces: put on, watched, confirmed, taken back."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from xds_agent.datapath import pins
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import Generation
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import confirmed
from xds_agent.node.datapath.attachment import LINKS, AttachError, attach
from xds_agent.node.datapath.confirmed import Confirmed
from xds_agent.node.datapath.network import Interface, index_of

log = logging.getLogger(__name__)

CONFIRMED = "confirmed"
_BY_HAND = (
    "the program was taken off {name} by hand, and nothing is filtered or balanced there until "
    "`xds-agent datapath attach` or a restart of the agent"
)


class Attached:
    """Which interfaces run the program. All of it blocks for milliseconds: for the thread of the maps."""

    def __init__(self, config: DatapathConfig, *, record: Path) -> None:
        """`record`: a file that outlives a boot, for the program this host was found well with."""
        self._config = config
        self._record = record
        self._objects = record.with_name(f"{record.name}.objects")
        self._links: dict[str, Link] = {}
        self._given_up = False
        self._asked = ""

    def put_on(self, generation: Generation, interfaces: Sequence[Interface]) -> None:
        """From here on `generation` runs on them. Raises AttachError."""
        made = attach(
            generation, interfaces, folder=self._config.pins, native=self._config.mode == "native",
            keep=self._config.interfaces,
        )  # fmt: skip
        for name, link in made.items():
            if (before := self._links.get(name)) is not None:
                before.close()
            self._links[name] = link
        self._given_up = False

    def look(self) -> tuple[list[str], str]:
        """Interfaces that lost the program and are to get it again; and in words, those that do without.

        A card that went and came back has another number and no program. Who takes the program off by hand
        (`xds-agent datapath detach`) means it: that takes the pin away too.
        """
        anew, words = [], []
        for name, link in self._links.items():
            index = index_of(name)
            if self._given_up or (index and link.interface() == index):
                continue
            if not self._pin(name).exists():
                words.append(_BY_HAND.format(name=name))
            elif not index:
                words.append(f"the interface {name} is gone")
            else:
                anew.append(name)
        return anew, "; ".join(words)

    @property
    def unproven(self) -> bool:
        """True until this host was found well with this very program on these interfaces."""
        try:
            self._asked = self._mark()
            return self._record.read_text(encoding="ascii") != self._asked
        except OSError:
            return True

    @property
    def can_go_back(self) -> bool:
        """False after a boot, until a program is confirmed again: what was pinned is gone with it."""
        return (self._config.pins / CONFIRMED).exists()

    def confirm(self, generation: Generation) -> None:
        """It is the one to go back to from now on. Raises OSError where it cannot be kept."""
        try:
            pins.keep_program(generation, self._config.pins / CONFIRMED)
            # The file may be a newer one by now: what is kept must be what runs.
            if self._asked in ("", self._mark()):
                confirmed.keep(generation, folder=self._objects, bpffs=self._config.pins)
            else:
                confirmed.forget(self._objects)
        except pins.NoBpffs as error:
            raise OSError(str(error)) from error
        self._record.parent.mkdir(parents=True, exist_ok=True)
        # As it was when this start looked: the file may be a newer one by now.
        self._record.write_text(self._asked or self._mark(), encoding="ascii")

    def take_back(self) -> bool:
        """The confirmed program in place of this one; True if there was one, else none runs now.

        Raises AttachError.
        """
        try:
            before = pins.kept_program(self._config.pins / CONFIRMED)
            self._given_up = before is None
            for name, link in self._links.items():
                if before is not None:
                    link.update(before)
                    continue
                link.detach()
                self._pin(name).unlink(missing_ok=True)
        except OSError as error:
            raise AttachError(f"the program could not be taken back: {error}") from error
        if before is not None:
            before.close()
        return before is not None

    def the_one_before(self) -> Confirmed:
        """What was confirmed, to be loaded again beside its own maps. Raises AttachError."""
        return confirmed.kept(name=self._config.program.name, folder=self._objects, bpffs=self._config.pins)

    def close(self) -> None:
        """Programs go on."""
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.close()

    def _pin(self, name: str) -> Path:
        return self._config.pins / LINKS / name

    def _mark(self) -> str:
        """What was proved: this object by this kernel, on these interfaces. Raises OSError."""
        program = hashlib.sha256(self._config.program.read_bytes()).hexdigest()
        return " ".join((program, os.uname().release, self._config.mode, *sorted(self._config.interfaces)))
