"""What tc does for this host: marks and classes of what Envoy sends, and connections that come with a cookie.

The programs are loaded when something first asks for them, pinned beside the others, and taken off when
nothing does any more. For the thread of the maps.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath import htb
from xds_agent.datapath.htb import ServiceClass
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import Generation
from xds_agent.datapath.tc import Direction, TcGeneration, TcLink, load_tc
from xds_agent.model.limits import DSCPS
from xds_agent.node.datapath.attachment import is_detached
from xds_agent.node.datapath.network import Interface, index_of
from xds_agent.node.datapath.routes import SHAPING, NetlinkEvents
from xds_agent.node.datapath.shaped import Record
from xds_agent.node.datapath.wanted import Wanted, apart

log = logging.getLogger(__name__)

OBJECT, PINS = "tc.bpf.o", "tc"
# What no class is named for, but a bandwidth.
_USUAL_QOS = 2
Key = tuple[str, Direction]
"""An interface, and one side of it."""


@dataclass(frozen=True)
class Shape:
    """All that tc is asked for, by numbers of services."""

    qos: Mapping[int, int]
    bandwidth: Mapping[int, ServiceClass]
    cookies: bool

    @property
    def directions(self) -> tuple[Direction, ...]:
        found: list[Direction] = ["egress"] if self.qos or self.bandwidth else []
        return (*found, "ingress") if self.cookies else tuple(found)


def shape_of(wanted: Wanted, number_of: Callable[[str], int]) -> Shape:
    """Pure."""
    shaped = {number_of(one.name): one for one in apart(wanted.services) if one.forward == "kernel"}
    return Shape(
        {number: one.qos for number, one in shaped.items() if one.qos is not None},
        {
            number: ServiceClass(_USUAL_QOS if one.qos is None else one.qos, one.egress_bits)
            for number, one in shaped.items()
            if one.egress_bits
        },
        bool(wanted.limits.cookies_above),
    )


class Shaping:
    """The tc programs of one host."""

    def __init__(self, *, program: Path, pins: Path, record: Path) -> None:
        """`program`: that of XDP, which ours lies beside; `pins`: a folder on a BPF file system; `record`: a
        file that lives as long as the host is up."""
        self._object, self._folder, self._record = program.with_name(OBJECT), pins, Record(record)
        self._loaded: TcGeneration | None = None
        self._beside: Generation | None = None
        # With the interface's number: a card that went and came back has another one.
        self._links: dict[Key, tuple[int, TcLink]] = {}
        self._written: frozenset[int] = frozenset()
        self._live: tuple[Shape, tuple[int, ...]] | None = None
        self._events, self._seen = NetlinkEvents(SHAPING), -1
        self.missing = ""

    def go_with(self, program: Path) -> None:
        """Another program of XDP runs now: that of tc lies beside it."""
        self._object = program.with_name(OBJECT)

    def bring(self, shape: Shape, generation: Generation, interfaces: Sequence[Interface]) -> None:
        """Raises OSError, Unavailable, HtbError (a ValueError): write what was live before again then."""
        wanted = shape, tuple(one.index for one in interfaces)
        if wanted == self._live and generation is self._beside and not self._lost():
            return
        self._live = None
        if shape.directions or self._links:
            loaded = self._load(generation)
            self._write(loaded, shape)
        for interface in interfaces:
            self._shape(interface.name, interface.index, shape.bandwidth)
        directions = () if is_detached(self._folder) else shape.directions
        asked = {
            (one.name, direction): one.index
            for one in interfaces
            for direction in directions
            if self._loaded is not None and direction in self._loaded.fds
        }
        self._take_off_others(asked)
        if self._loaded is not None:
            self._attach(self._loaded, asked)
        if by_hand := is_detached(self._folder):
            # Perhaps only since: the command may have looked before it was on.
            self._take_off_others({})
        for name in self._record.read().keys() - {one.name for one in interfaces}:
            forget_interface(self._record, name)
        self._live = None if by_hand else wanted

    def look(self, interfaces: Sequence[Interface]) -> list[str]:
        """Those whose classes somebody took away, or the root with all of them: the next `bring` makes them
        again. The kernel is asked only after it said that something of tc changed.

        Raises OSError, HtbError.
        """
        seen = self._events.count()
        if self._live is None or seen == self._seen:
            return []
        services = self._live[0].bandwidth.keys()
        lost = [
            one.name
            for one in interfaces
            if services and index_of(one.name) == one.index and not htb.stands(one.index, services)
        ]
        self._seen = seen
        if lost:
            self._live = None
        return lost

    def close(self) -> None:
        """Programs go on."""
        self._close_links()
        self._events.close()
        if self._loaded is not None:
            self._loaded.close()

    def _close_links(self) -> None:
        for _, link in self._links.values():
            with contextlib.suppress(OSError):
                link.close()
        self._links = {}

    def _load(self, generation: Generation) -> TcGeneration:
        if self._loaded is None or self._beside is not generation:
            before, self._loaded = self._loaded, load_tc(self._object, beside=generation)
            self._beside = generation
            self._close_links()
            self._written = frozenset()
            if before is not None:
                before.close()
        return self._loaded

    def _shape(self, name: str, index: int, bandwidth: Mapping[int, ServiceClass]) -> None:
        made = self._record.of(name, index).made
        htb.bring(
            name, index, bandwidth, made=made, keep=lambda now: self._record.keep_made(name, index, now)
        )

    def _lost(self) -> list[Key]:
        """What somebody took off who did not mean it, as `xds-agent datapath detach` does."""
        if is_detached(self._folder):
            return []
        return [key for key, (_, link) in self._links.items() if not link.attached()]

    def _write(self, loaded: TcGeneration, shape: Shape) -> None:
        self.missing = "; ".join(loaded.missing) if shape.cookies else ""
        for usual, dscp in enumerate(DSCPS):
            loaded.put_class(dscp, htb.class_of(usual))
        numbers = shape.qos.keys() | shape.bandwidth.keys()
        for number in numbers:
            qos = shape.qos.get(number)
            handle = 0 if qos is None else htb.class_of(qos)
            if number in shape.bandwidth:
                handle = htb.class_of_service(number)
            loaded.put_egress(number, htb_class=handle, dscp=None if qos is None else DSCPS[qos])
        for number in self._written - numbers:
            loaded.put_egress(number)
        self._written = frozenset(numbers)

    def _take_off_others(self, asked: Mapping[Key, int]) -> None:
        """Ours, and those of a predecessor, which may have had other interfaces."""
        ours = {key: index for key, (index, _) in self._links.items()}
        for key in self._lost():
            self._take_off(key, ours.pop(key))
        for key, index in ours.items():
            if asked.get(key) != index:
                self._take_off(key, index)
        for name, shaped in self._record.read().items():
            for direction in shaped.directions:
                if (name, direction) not in asked:
                    self._take_off((name, direction), shaped.index)
        for pin in self._pins.glob("*"):
            name, _, side = pin.name.rpartition("-")
            if (name, side) not in asked:
                Link.take_off(pin)

    def _attach(self, loaded: TcGeneration, asked: Mapping[Key, int]) -> None:
        for key, index in asked.items():
            if key not in self._links:
                self._record.put_on(key[0], index, key[1])
                self._links[key] = index, self._put_on(loaded, key, index)

    def _put_on(self, loaded: TcGeneration, key: Key, index: int) -> TcLink:
        pin = self._pin(key)
        link = TcLink.open(pin, index, key[1])
        if link is not None:
            try:
                link.update(loaded)
                return link
            except OSError as error:
                log.info("%s %s: the pinned link is dead (%s)", *key, error)
                link.close()
                pin.unlink()
        link = TcLink.attach(loaded, index, key[1])
        link.pin(pin)
        return link

    def _take_off(self, key: Key, index: int) -> None:
        known = self._links.pop(key, None)
        pinned = Link.take_off(self._pin(key))
        if known is not None:
            known[1].close()
        # A filter is pinned nowhere.
        if not pinned and index_of(key[0]) == index:
            TcLink.filter(index, key[1]).detach()
        self._record.taken_off(key[0], index, key[1])

    @property
    def _pins(self) -> Path:
        return self._folder / PINS

    def _pin(self, key: Key) -> Path:
        return self._pins / f"{key[0]}-{key[1]}"


def take_off(*, pins: Path, record: Path) -> list[str]:
    """All programs of tc on this host, whoever runs them; classes stay. Names of what was taken off.

    Raises OSError.
    """
    known, names = Record(record), []
    for name, shaped in known.read().items():
        for direction in shaped.directions:
            pin = pins / PINS / f"{name}-{direction}"
            if not Link.take_off(pin) and index_of(name) == shaped.index:
                TcLink.filter(shaped.index, direction).detach()
            names.append(pin.name)
    return sorted(names)


def forget_interface(record: Record, name: str) -> None:
    """What tc has of ours on an interface that nobody asks for any more. Raises OSError, HtbError."""
    shaped = record.read().get(name)
    if shaped is None:
        return
    if index_of(name) == shaped.index:
        for direction in shaped.directions:
            TcLink.filter(shaped.index, direction).detach()
        htb.bring(
            name, shaped.index, {}, made=shaped.made,
            keep=lambda now: record.keep_made(name, shaped.index, now),
        )  # fmt: skip
    record.forget(name)
