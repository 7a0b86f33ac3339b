"""The program on this host's interfaces: put on, watched, confirmed, taken back."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from xds_agent.datapath import pins
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import Generation
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath import confirmed
from xds_agent.node.datapath.attachment import LINKS, AttachError, attach, detach, is_detached, on_card
from xds_agent.node.datapath.confirmed import Confirmed
from xds_agent.node.datapath.network import Interface, index_of
from xds_agent.node.datapath.record import Record

log = logging.getLogger(__name__)

CONFIRMED = "confirmed"
_BY_HAND = (
    "the program was taken off {name} by hand, and nothing is filtered or balanced there until "
    "`xds-agent datapath attach` or a restart of the agent"
)
_RETURNED = "{name} has come back as another card, and gets the program once it was tried"
_UNTRIED = "the program was not proved on {name} yet, which gets it once it was tried"
_NOT_BACK = (
    "{name} lost the program before, which this agent cannot serve: nothing is filtered or balanced there"
)


class Attached:
    """Which interfaces run the program. All of it blocks for milliseconds: for the thread of the maps."""

    def __init__(self, config: DatapathConfig, *, record: Path) -> None:
        """`record`: a file that outlives a boot, for the program this host was found well with."""
        self._config = config
        self._record = Record(record)
        self._objects = record.with_name(f"{record.name}.objects")
        self._links: dict[str, Link] = {}
        # By name the number of the card that runs, or ran, the program.
        self._carried: dict[str, int] = {}
        self.refused: Mapping[str, str] = {}
        """By interface why it has no program; it may be tried again."""
        self._given_up = self._taken_back = False
        self._asked = ""

    def put_on(
        self, generation: Generation, interfaces: Sequence[Interface], *,
        preflight: Callable[[Interface], Link | None] = lambda _: None,
    ) -> None:  # fmt: skip
        """From here on `generation` runs on those that take it, the others are `refused`; `preflight` as
        `attach` takes it. Raises AttachError, also where it was taken off by hand, before or meanwhile."""
        self.check_by_hand()
        made = attach(
            generation, interfaces, folder=self._config.pins, native=self._config.mode == "native",
            keep=self._config.interfaces, preflight=preflight,
        )  # fmt: skip
        for one in interfaces:
            if (before := self._links.pop(one.name, None)) is not None:
                before.close()
        self._links |= made.links
        self._carried |= {one.name: one.index for one in interfaces if one.name in made.links}
        asked = {one.name for one in interfaces}
        others = {name: words for name, words in self.refused.items() if name not in asked}
        self.refused = {**others, **made.refused}
        self._given_up = self._taken_back = False
        self._check_what_came_on()

    def refuse(self, name: str, words: str) -> None:
        """It has no program, and why."""
        self.refused = {**self.refused, name: words}

    def carried(self, card: Interface) -> bool:
        """Whether the program runs, or ran, on this very card."""
        return self._carried.get(card.name) == card.index

    def knows(self, name: str) -> bool:
        """Whether it ran on a card of this name, now or before a boot."""
        return name in self._carried or name in self._record.cards(self._asked)

    @property
    def to_try_again(self) -> list[str]:
        """Interfaces that got no program and are there, while it runs."""
        if self._taken_back or self.by_hand:
            return []
        return [name for name in self.refused if index_of(name)]

    def untried(self) -> dict[str, str]:
        """In words, those that have no program of ours and are not on record. Raises OSError."""
        known = self._record.cards(self._asked)
        return {
            name: _UNTRIED.format(name=name)
            for name in self._config.interfaces
            if name not in known and not self._runs(name)
        }

    def try_on(self, generation: Generation, card: Interface, trial: Link | None) -> Link:
        """On a card that has none of ours for as long as the link is open: `keep` it. `trial` as `on_card`
        takes it. Raises AttachError."""
        self.check_by_hand()
        if self._taken_back:
            raise AttachError(_NOT_BACK.format(name=card.name))
        return on_card(generation, card, trial, native=self._config.mode == "native")

    def keep(self, card: Interface, link: Link, *, proved: bool) -> None:
        """What `try_on` put there, beyond this process; `proved`: at boots too. Raises AttachError; then it
        is off."""
        pin = self._pin(card.name)
        try:
            if link.interface() != card.index:
                raise AttachError(f"{card.name} went away while it was tried")
            self.check_by_hand()
            if proved:
                # First: killed between the two, a pin would be taken for one that was proved.
                self._write_down(card.name)
            pin.unlink(missing_ok=True)
            link.pin(pin)
            self._check_what_came_on()
        except (AttachError, OSError) as error:
            link.close()
            raise AttachError(str(error)) from error
        if (before := self._links.pop(card.name, None)) is not None:
            before.close()
        self._links[card.name], self._carried[card.name] = link, card.index
        self.refused = {name: words for name, words in self.refused.items() if name != card.name}

    def drop(self, name: str) -> None:
        """It is not proved on this card any more, at boots either."""
        with contextlib.suppress(OSError):
            self._record.drop(name)

    def _write_down(self, name: str) -> None:
        try:
            self._record.add(name)
        except OSError as error:
            log.warning("that the program is well on %s could not be written down: %s", name, error)

    def look(self) -> tuple[list[str], str]:
        """Interfaces that are to get the program at once: they lost it, or have it by hand; and in words,
        those that do without.

        A card that went and came back has another number: it is `refused` until it was tried. Who takes the
        program off by hand (`xds-agent datapath detach`) means it.
        """
        if self.by_hand:
            on = self.on()
            return [], "; ".join(_BY_HAND.format(name=name) for name in self._links if name not in on)
        anew, words = [], []
        for name, link in self._links.items():
            index = index_of(name)
            if self._given_up or (index and link.interface() == index):
                continue
            if not index:
                words.append(f"the interface {name} is gone")
            elif self._taken_back:
                # What the agent has loaded is the one that was taken back.
                words.append(_NOT_BACK.format(name=name))
            elif name not in self.refused and self._carried[name] == index:
                anew.append(name)
            elif name not in self.refused:
                self.refuse(name, _RETURNED.format(name=name))
        anew += [name for name in self.refused if not self._taken_back and self._runs(name)]
        return anew, "; ".join(words)

    @property
    def unproven(self) -> bool:
        """True until this host was found well with this very program, on one of its interfaces at least."""
        try:
            self._asked = self._what()
        except OSError:
            return True
        return self._record.cards(self._asked).isdisjoint(self._config.interfaces)

    @property
    def can_go_back(self) -> bool:
        """False after a boot, until a program is confirmed again: what was pinned is gone with it."""
        return (self._config.pins / CONFIRMED).exists()

    def confirm(self, generation: Generation, proved: Collection[str]) -> None:
        """It is the one to go back to from now on, `proved` on these cards beside those it was proved on
        before. Raises OSError where it cannot be kept."""
        try:
            pins.keep_program(generation, self._config.pins / CONFIRMED)
            # The file may be a newer one by now: what is kept must be what runs.
            if self._asked in ("", self._what()):
                confirmed.keep(generation, folder=self._objects, bpffs=self._config.pins)
            else:
                confirmed.forget(self._objects)
        except pins.NoBpffs as error:
            raise OSError(str(error)) from error
        # As it was when this start looked: the file may be a newer one by now.
        what = self._asked or self._what()
        known = self._record.cards(what) & set(self._config.interfaces)
        self._record.write(what, known.union(proved))

    def take_back(self) -> bool:
        """The confirmed program in place of this one; True if there was one, else none runs now.

        Raises AttachError.
        """
        try:
            # On cards that it was never proved on, the confirmed program itself may be on probation.
            same = self._record.holds(self._asked)
            before = None if same else pins.kept_program(self._config.pins / CONFIRMED)
            self._given_up, self._taken_back = before is None, True
            for name, link in list(self._links.items()):
                if before is not None:
                    # A card that is gone takes none.
                    if link.interface():
                        link.update(before)
                    continue
                link.detach()
                self._pin(name).unlink(missing_ok=True)
                if name in self.refused:
                    # Of a card that was there before this one: it is not put on again.
                    self._links.pop(name).close()
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

    @property
    def by_hand(self) -> bool:
        """Whether the program was taken off by `xds-agent datapath detach`."""
        return is_detached(self._config.pins)

    def check_by_hand(self) -> None:
        """Raises AttachError where it was taken off by hand: none may come on."""
        if self.by_hand:
            raise AttachError(_BY_HAND.format(name=", ".join(self._config.interfaces)))

    def on(self) -> dict[str, Link]:
        """By interface the links of ours that are on it now. Raises OSError."""
        return {name: link for name, link in self._links.items() if link.interface() == index_of(name) != 0}

    def _check_what_came_on(self) -> None:
        """As `check_by_hand`, once pins are made: the command may have looked for them before."""
        if self.by_hand:
            detach(self._config.pins)
        self.check_by_hand()

    def _runs(self, name: str) -> bool:
        """Whether a program of ours is on the card, whoever put it there. Raises OSError."""
        link = Link.open(self._pin(name))
        if link is None:
            return False
        with contextlib.closing(link):
            return link.interface() == index_of(name) != 0

    def _pin(self, name: str) -> Path:
        return self._config.pins / LINKS / name

    def _what(self) -> str:
        """What was proved: this object by this kernel. Raises OSError."""
        program = hashlib.sha256(self._config.program.read_bytes()).hexdigest()
        return " ".join((program, os.uname().release, self._config.mode))
