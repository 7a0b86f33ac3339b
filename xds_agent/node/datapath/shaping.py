"""What tc does for this host: marks and classes of what Envoy sends, and connections that come with a cookie.

The programs are loaded when something first asks for them, pinned beside the others, and taken off when
nothing does any more. For the thread of the maps.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath import htb
from xds_agent.datapath.htb import ServiceClass
from xds_agent.datapath.program import Generation
from xds_agent.datapath.tc import Direction, TcGeneration, TcLink, load_tc
from xds_agent.model.limits import DSCPS
from xds_agent.node.datapath.network import Interface
from xds_agent.node.datapath.wanted import Wanted

log = logging.getLogger(__name__)

OBJECT, PINS = "tc.bpf.o", "tc"
# What no class is named for, but a bandwidth.
_USUAL_QOS = 2


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


def shape_of(wanted: Wanted, numbers: Mapping[str, int]) -> Shape:
    """Pure."""
    shaped = {numbers[one.name]: one for one in wanted.services.values() if not one.balanced}
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

    def __init__(self, *, program: Path, pins: Path) -> None:
        """`program`: that of XDP, which ours lies beside; `pins`: a folder on a BPF file system."""
        self._object, self._pins = program.with_name(OBJECT), pins / PINS
        self._loaded: TcGeneration | None = None
        self._beside: Generation | None = None
        # With the interface's number: a card that went and came back has another one.
        self._links: dict[tuple[str, Direction], tuple[int, TcLink]] = {}
        self._written: frozenset[int] = frozenset()
        self._live: tuple[Shape, tuple[int, ...]] | None = None
        self.missing = ""

    def bring(self, shape: Shape, generation: Generation, interfaces: Sequence[Interface]) -> None:
        """Raises OSError, Unavailable, HtbError (a ValueError): write what was live before again then."""
        wanted = shape, tuple(one.index for one in interfaces)
        if wanted == self._live and generation is self._beside:
            return
        self._live = None
        if shape.directions or self._links:
            loaded = self._load(generation)
            self._write(loaded, shape)
        for interface in interfaces:
            htb.bring(interface.name, interface.index, shape.bandwidth)
        if self._loaded is not None:
            self._attach(self._loaded, shape, interfaces)
        elif self._pins.exists():
            self._forget_pins()
        self._live = wanted

    def close(self) -> None:
        """Programs go on."""
        for _, link in self._links.values():
            with contextlib.suppress(OSError):
                link.close()
        if self._loaded is not None:
            self._loaded.close()

    def _load(self, generation: Generation) -> TcGeneration:
        if self._loaded is None or self._beside is not generation:
            before, self._loaded = self._loaded, load_tc(self._object, beside=generation)
            self._beside = generation
            self._links, self._written = {}, frozenset()
            if before is not None:
                before.close()
        return self._loaded

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

    def _attach(self, loaded: TcGeneration, shape: Shape, interfaces: Sequence[Interface]) -> None:
        asked = {
            (one.name, direction): one.index
            for one in interfaces
            for direction in shape.directions
            if direction in loaded.fds
        }
        for key in [key for key, (index, _) in self._links.items() if asked.get(key) != index]:
            self._take_off(key)
        for key, index in asked.items():
            if key not in self._links:
                self._links[key] = index, self._put_on(loaded, key, index)

    def _put_on(self, loaded: TcGeneration, key: tuple[str, Direction], index: int) -> TcLink:
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

    def _take_off(self, key: tuple[str, Direction]) -> None:
        _, link = self._links.pop(key)
        self._pin(key).unlink(missing_ok=True)
        if link.clsact:
            link.detach()
        link.close()

    def _forget_pins(self) -> None:
        """Of a predecessor, when nothing is asked for any more."""
        for pin in self._pins.glob("*"):
            pin.unlink()

    def _pin(self, key: tuple[str, Direction]) -> Path:
        return self._pins / f"{key[0]}-{key[1]}"
