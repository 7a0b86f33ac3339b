"""What runs on this host: program, maps, tc and vips, brought to a set and kept true to the network.

All of it blocks, for milliseconds mostly: for one thread, that of the maps. `link` decides what and when.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from xds_agent.datapath.drain import open_flows
from xds_agent.datapath.fill import Fill, fills
from xds_agent.datapath.link import Link
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath.attached import Attached
from xds_agent.node.datapath.attachment import (
    CONFIRMED_MAPS,
    MAPS,
    AttachError,
    balance_seed,
    cookie_key,
    host_seed,
    load_beside,
)
from xds_agent.node.datapath.cards import Cards
from xds_agent.node.datapath.confirmed import Confirmed
from xds_agent.node.datapath.confirming import Confirming
from xds_agent.node.datapath.network import Interface, index_of
from xds_agent.node.datapath.preflight import Preflight
from xds_agent.node.datapath.rates import settings_of
from xds_agent.node.datapath.reading import Reader
from xds_agent.node.datapath.rings import RingFiles, RingMaker
from xds_agent.node.datapath.routes import NetlinkEvents, Routes
from xds_agent.node.datapath.shaped import FILE as SHAPED
from xds_agent.node.datapath.shaping import Shaping, shape_of
from xds_agent.node.datapath.surroundings import Surroundings
from xds_agent.node.datapath.wanted import Wanted
from xds_agent.node.datapath.ways import Ways
from xds_agent.node.datapath.writer import Writer
from xds_agent.snapshot.resource import EMPTY, Snapshot

log = logging.getLogger(__name__)

# Flows of moved slots are counted this often: it walks the flow table.
SETTLE_S = 15.0


class Running:
    """`start`, then one `flip` after another; `follow` and `settle` between them. They raise FAILURES."""

    def __init__(self, config: DatapathConfig, around: Surroundings, *, runtime: Path, lasting: Path) -> None:
        """`runtime`: a folder with the life of the maps; `lasting`: one that outlives a boot."""
        self.config = config
        # Not that of the config any more once it was taken back.
        self.program = config.program
        self.writer: Writer | None = None
        self.wanted, self.snapshot, self.revision = Wanted(), EMPTY, ""
        self.cards = Cards(config.interfaces, config.vips, record=runtime / "vips")
        self.attached = Attached(config, record=lasting / "datapath.confirmed")
        self.around = around
        native, skip = config.mode == "native", not config.preflight
        self.preflight = Preflight(config.program.parent, native=native, skip=skip)
        self.fills: dict[str, Fill] = {}
        # What was taken off, or cannot be sent from, in words.
        self.off = ""
        self._runtime = runtime
        self._rings = RingFiles(runtime / "rings")
        self._maker = RingMaker(config.program.with_name("maglev.bpf.o"))
        self._reader = Reader()
        self._events, self._cards_seen = NetlinkEvents(), -1
        self._routes = Routes(self._events)
        self._shaping = Shaping(program=config.program, pins=config.pins, record=runtime / SHAPED)
        self._settled, self._by_hand = 0.0, False

    @property
    def carriers(self) -> tuple[Interface, ...]:
        """The cards without those that refused the program."""
        return tuple(one for one in self.cards.interfaces if one.name not in self.attached.refused)

    @property
    def missing(self) -> str:
        """What was asked for and this kernel has not."""
        return "; ".join(filter(None, (self._shaping.missing, self._maker.missing)))

    def close(self) -> None:
        """What is ours; programs and maps go on."""
        self.attached.close()
        self._events.close()
        self._shaping.close()
        self._maker.close()
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.keep_numbers()
            self.writer.close()

    def back(self, before: Snapshot) -> Wanted:
        """Maps as they were for `before`, by the addresses that this host has now."""
        assert self.writer is not None
        self.wanted, self.snapshot = self._read(before), before
        self._write(self.writer, self.wanted, self._ways(self.wanted, wait=False))
        return self.wanted

    def start(self, held: Snapshot, confirming: Confirming | None) -> None:
        config = self.config
        self.attached.check_by_hand()
        self.cards.look()
        self.attached.refused = {} if confirming is not None else self.attached.untried()
        if confirming is not None:
            confirming.prove(config.program)
        self._put_to_work(Confirmed.of(config), held, confirming=confirming)
        if confirming is None and not self.attached.can_go_back:
            # A boot took the pin of the program that was confirmed, which is this one.
            assert self.writer is not None
            with contextlib.suppress(OSError):
                self.attached.confirm(self.writer.generation, ())

    def _put_to_work(
        self, one: Confirmed, held: Snapshot, *, confirming: Confirming | None = None, resuming: bool = False
    ) -> None:
        """A program loaded beside the maps, these brought to `held`, then attached. `resuming`: by the maps
        of the confirmed program, which cards that are away or refuse it get later."""
        maps = CONFIRMED_MAPS if resuming else MAPS
        loaded = load_beside(
            one.program, folder=self.config.pins, sizes=one.sizes,
            balance_seed=balance_seed(self.config.balance_seed_file, self._runtime),
            host_seed=host_seed(self._runtime), numbered=bool(self._rings.numbers()), maps=maps,
        )  # fmt: skip
        writer = Writer(loaded.generation, rings=self._rings, mtu=self.cards.mtu, maker=self._maker)
        try:
            wanted = self._read(held)
            ways = self._ways(wanted, wait=False)
            if loaded.taken_over:
                writer.take_over(wanted)
                ways = ways.or_macs(writer.found_macs)
                self.around.down = frozenset(
                    (one.name, real.key)
                    for one in wanted.services.values()
                    for real in one.reals
                    if real.key in writer.found_down
                )
            self._shaping.go_with(one.program)
            self._write(writer, wanted, ways)
            writer.keep_numbers()
            if confirming is not None and loaded.taken_over:
                confirming.before_the_flip(loaded.generation)
            if confirming is None:
                self.attached.put_on(loaded.generation, self._proved(resuming=resuming))
            else:
                self.attached.put_on(loaded.generation, self.cards.interfaces, preflight=self.preflight.card)
            if not self.carriers and not resuming:
                raise AttachError("; ".join(self.attached.refused.values()))
        except BaseException:
            writer.close()
            raise
        self.program = one.program
        self.writer, self.wanted, self.snapshot, self.revision = writer, wanted, held, held.revision
        self._say_what_is_off(self.attached.look()[1])

    def _proved(self, *, resuming: bool) -> list[Interface]:
        """Cards that get it without a trial. One that came back while another program ran is no such."""
        return [one for one in self.carriers if not resuming or self.attached.carried(one)]

    def resume(self) -> None:
        """The program before runs again, as it was pinned: from now on with this agent, by its own maps."""
        self._put_to_work(self.attached.the_one_before(), self.snapshot, resuming=True)

    def _look_after_links(self) -> bool:
        """Put the program on again where it was lost; True if what `problem` says has changed."""
        assert self.writer is not None
        before, self._by_hand = self._by_hand, self.attached.by_hand
        if before and not self._by_hand:
            # What tc does has to be done again too.
            self.around.outdated()
        anew, words = self.attached.look()
        if anew:
            self.attached.put_on(self.writer.generation, self.cards.returned(anew))
            self._attached_anew([name for name in anew if name not in self.attached.refused])
        return self._say_what_is_off(words) or bool(anew)

    def _attached_anew(self, names: Sequence[str]) -> None:
        if names:
            # What tc does there has to be done again too.
            self.around.outdated()
            log.warning("attached anew: %s", ", ".join(names))

    def card(self, name: str) -> Interface:
        """As it is now. Raises NetworkError, OSError."""
        [found] = self.cards.returned([name])
        return found

    def try_on(self, card: Interface, trial: Link | None) -> Link:
        """As `Attached.try_on`, with the program that runs."""
        assert self.writer is not None
        return self.attached.try_on(self.writer.generation, card, trial)

    def keep(self, card: Interface, link: Link, proved: bool) -> None:
        """As `Attached.keep`."""
        self.attached.keep(card, link, proved=proved)
        self._attached_anew([card.name])

    def _say_what_is_off(self, lost: str) -> bool:
        """True if it is another than before."""
        assert self.writer is not None
        refused = self.attached.refused.values()
        words = "; ".join(filter(None, (lost, *refused, self.writer.nat_problem(self.wanted))))
        changed, self.off = words != self.off, words
        if words and changed:
            log.error("%s", words)
        return changed

    def _read(self, snapshot: Snapshot) -> Wanted:
        vips = self.config.vips
        return self._reader.read(snapshot, own=self.cards.own, vips=vips or self.cards.sources)

    def _ways(self, wanted: Wanted, *, wait: bool) -> Ways:
        """`wait` is for a change, which asks for no neighbour that was there a second ago."""
        known = self.around.macs if wait else {}
        indices = {one.index for one in self.carriers}
        return self._routes.ways(wanted, indices, known=known, wait=wait)

    def _look_at_cards(self) -> bool:
        """True if addresses or MTU are others now."""
        seen = self._events.count()
        if seen == self._cards_seen:
            return False
        changed = self.cards.look()
        self._cards_seen = seen
        return changed

    def _write(self, writer: Writer, wanted: Wanted, ways: Ways) -> None:
        key = cookie_key(self._runtime)
        settings = settings_of(wanted.limits, self.cards.sources, cookie_key=key)
        seen = self.around.take(wanted, ways)
        writer.apply(wanted, settings, self.around.macs, self.around.out)
        shape = shape_of(wanted, writer.services.__getitem__)
        self._shaping.bring(shape, writer.generation, self.cards.interfaces)
        self.around.written(seen)

    def flip(self, target: Snapshot, known_good: bool) -> Wanted:
        assert self.writer is not None
        if self._look_at_cards():
            self.writer.mtu = self.cards.mtu
        wanted = self._read(target)
        ways = self._ways(wanted, wait=True)
        if not known_good:
            ways.check(wanted)
            if words := self.writer.nat_problem(wanted):
                raise ValueError(words)
        self._write(self.writer, wanted, ways)
        return wanted

    def follow(self) -> bool:
        """Write again if anything beside the revision has changed; True if it had."""
        assert self.writer is not None
        self.writer.keep_numbers()
        changed = self._look_after_links()
        if all(map(index_of, self.config.interfaces)) and self._look_at_cards():
            log.warning("addresses or MTU of this host are others now: the maps follow")
            self.wanted, self.writer.mtu = self._read(self.snapshot), self.cards.mtu
            self.around.outdated()
        if lost := self._shaping.look(self.cards.interfaces):
            log.warning("classes of bandwidth were taken off %s: they are made again", ", ".join(lost))
            self.around.outdated()
        ways = self._ways(self.wanted, wait=False).or_macs(self.around.macs)
        if not self.around.changed(self.wanted, ways):
            return changed
        self._write(self.writer, self.wanted, ways)
        return True

    def open_flows(self) -> dict[str, int]:
        """By service of `nat`, also those that have none."""
        if self.writer is None:
            return {}
        counts, numbers = open_flows(self.writer.generation), self.writer.services
        translated = [name for name, one in self.wanted.services.items() if one.forward == "nat"]
        return {name: counts.get(number, 0) for name in translated if (number := numbers.get(name))}

    def settle(self) -> bool:
        """Every now and then: what no flow is pinned to any more is forgotten."""
        assert self.writer is not None
        if time.monotonic() - self._settled < SETTLE_S:
            return False
        self._settled = time.monotonic()
        # Walks whole tables, so it is done here and not whenever somebody asks for figures.
        self.fills = fills(self.writer.generation)
        return self.writer.settle(self.wanted)
