"""From what is wanted to the maps of a loaded program: make before break, and nothing that stays is touched.

Reals and rings come before the services that use them, what nobody wants goes last; each entry is one write,
which the next packet sees whole. Numbers and rings of a running program are taken over.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.drain import IDLE_S, pinned_reals, pinned_slots
from xds_agent.datapath.nat_range import LOCAL_PORTS, local_ports, snat_problem
from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.datapath.program import Generation
from xds_agent.datapath.ring_tables import RingTables
from xds_agent.datapath.services import UDP, Real, Service, Settings, State, Tables
from xds_agent.model.limits import DSCPS
from xds_agent.node.datapath.fronts import Fronts
from xds_agent.node.datapath.index import Changed, Index, ring_key
from xds_agent.node.datapath.numbers import MapFull, Numbers
from xds_agent.node.datapath.predecessor import NO_MAC, live_reals, live_services
from xds_agent.node.datapath.rates import byte_rate, loosest, rate
from xds_agent.node.datapath.ring_store import VERSIONS, ByNumber, RingKey, RingStore
from xds_agent.node.datapath.rings import RingFiles, RingMaker, eligible
from xds_agent.node.datapath.wanted import (
    Address,
    Class,
    Front,
    RealKey,
    RealOf,
    Wanted,
    WantedReal,
    WantedService,
)

# GUE without a header of its own: outer IP and UDP.
_OUTER_BYTES = {4: 28, 6: 48}


class Writer:
    """Writes to one generation. For one thread at a time."""

    def __init__(
        self, generation: Generation, *, rings: RingFiles, mtu: int, maker: RingMaker | None = None
    ) -> None:
        sizes = generation.sizes
        self.generation = generation
        self.tables = Tables(generation)
        self.lists = AccessLists(generation)
        self.services: Numbers[str] = Numbers("services", sizes.services, "raise xdp_services")
        self.reals: Numbers[RealKey] = Numbers("reals", sizes.reals, "raise xdp_reals")
        self.ring_numbers: Numbers[RingKey] = Numbers("rings", sizes.services, "raise xdp_services")
        self._files, self._maker = rings, maker or RingMaker()
        self.rings = RingStore(rings, RingTables(generation), self._maker.step)
        # What a predecessor knew of the reals.
        self.found_macs: dict[Address, bytes] = {}
        self.found_down: frozenset[RealKey] = frozenset()
        self.mtu = mtu
        self.fronts = Fronts(self.tables)
        self._reals: dict[RealKey, Real] = {}
        self._settings: Settings | None = None
        self._own: tuple[frozenset[Address], frozenset[Address]] | None = None
        self._numbers_kept = False
        self._index, self._whole = Index(), True
        self._macs: Mapping[Address, bytes] = {}
        self._out: frozenset[RealOf] = frozenset()
        self._leaving: set[RealKey] = set()
        self._mtu_written = mtu
        self._listed: object = None
        # Asked for by another thread than the one that writes.
        self._touched: deque[frozenset[str]] = deque()

    def close(self) -> None:
        """Descriptors of rings, and the generation; what is pinned or attached goes on."""
        self.rings.close()
        self.generation.close()

    def take_over(self, wanted: Wanted) -> None:
        """Numbers and rings of what runs already, by what the last revision said. Raises OSError."""
        live = live_services(self.generation)
        self.fronts.adopt(live)
        known: dict[str, int] = {}
        rings: dict[RingKey, int] = {}
        for one in wanted.services.values():
            for front in one.fronts:
                if front in live:
                    known[one.name], ring = live[front]
                    if ring:
                        rings[ring_key(one, front.address.version)] = ring
        found = live_reals(self.generation)
        reals, self.found_down = found.numbers, found.down
        self.found_macs |= found.macs
        # Tables of another layout start empty: then it is the files that know.
        kept = self._files.numbers()
        if kept and not known:
            known = dict(kept["services"])
            rings = {(name, version): number for name, version, number in kept["rings"]}
        if kept and not reals:
            reals = self._reals_of(kept["reals"])
        sizes = self.generation.sizes
        self.services = Numbers("services", sizes.services, "raise xdp_services", known)
        self.ring_numbers = Numbers("rings", sizes.services, "raise xdp_services", rings)
        self.reals = Numbers("reals", sizes.reals, "raise xdp_reals", reals)
        self.rings.adopt(rings)

    def apply(
        self, wanted: Wanted, settings: Settings, macs: Mapping[Address, bytes], out: Collection[RealOf]
    ) -> None:
        """`out`: reals that get nothing, whatever their weight.

        Only what differs from the last time is looked at. Raises MapFull before anything is written; OSError,
        ValueError midway: apply the old again.
        """
        try:
            self._apply(wanted, settings, macs, frozenset(out))
        except BaseException:
            # How far it came nobody knows: next time everything is looked at.
            self._index, self._whole = Index(), True
            self._touched.append(frozenset(wanted.services))
            raise
        self._whole = False

    def touched(self) -> set[str]:
        """Services that may be other than when this was last asked; for any thread."""
        found: set[str] = set()
        with contextlib.suppress(IndexError):
            while True:
                found |= self._touched.popleft()
        return found

    def _apply(
        self, wanted: Wanted, settings: Settings, macs: Mapping[Address, bytes], out: frozenset[RealOf]
    ) -> None:
        changed = self._changed(wanted, macs, out)
        self._check()
        self.protect(wanted, settings)
        self._macs, self._out = macs, out
        self._put_reals(changed)
        touched = [self._index.services[name] for name in changed.services if name in self._index.services]
        self._put_rings(touched)
        for one in touched:
            for front in one.fronts:
                self.fronts.put(front, self._service(one, front))
        self._let_go(changed)
        self._touched.append(frozenset(changed.services))

    def _changed(self, wanted: Wanted, macs: Mapping[Address, bytes], out: frozenset[RealOf]) -> Changed:
        index = self._index
        changed = index.bring(wanted.services)
        if self._whole or self.mtu != self._mtu_written:
            changed.services |= index.services.keys() | {name for name, _ in self.services.items()}
            changed.reals |= index.users.keys() | {key for key, _ in self.reals.items()}
            changed.fronts |= self.fronts.beside(index.fronts)
            changed.rings |= {key for key, _ in self.ring_numbers.items()} - index.rings
            self._mtu_written = self.mtu
        for name, key in out ^ self._out:
            changed.services.add(name)
            changed.reals.add(key)
        if macs != self._macs:
            moved = {one for one in macs.keys() | self._macs.keys() if macs.get(one) != self._macs.get(one)}
            changed.reals |= {key for key in index.users if key.address in moved}
        return changed

    def protect(self, wanted: Wanted, settings: Settings) -> None:
        """Settings and lists alone; also called when something denied for a time is over."""
        lists = wanted.lists, wanted.denied_at(time.time())
        if self._settings is not None and settings != self._settings and lists != self._listed:
            # Between the two no packet is dropped that both, the old pair and the new one, let pass.
            self._configure(loosest(self._settings, settings))
        elif settings != self._settings:
            self._configure(settings)
        own = wanted.own, frozenset(self._index.translated)
        if own != self._own:
            self.tables.put_own(own[0], translated=own[1])
            self._own = own
        if lists != self._listed:
            self._install(*lists)
            self._listed = lists
        if settings != self._settings:
            self._configure(settings)

    def _configure(self, settings: Settings) -> None:
        self.tables.configure(settings)
        self._settings = settings

    def real_state(self, key: RealKey) -> str:
        """As the program sees it."""
        return self._reals[key].state if key in self._reals else "absent"

    def is_served(self, name: str) -> bool:
        """True while some ring of the service leads anywhere; of what Envoy serves, always."""
        if all(self.ring_numbers.get((name, version)) is None for version in VERSIONS):
            return True
        return any(one.served for one in self.rings.of_service(name))

    def nat_problem(self, wanted: Wanted) -> str:
        """Why this host cannot translate what these services ask for, "" if it can. Raises OSError."""
        name = next((one.name for one in wanted.services.values() if one.forward == "nat"), "")
        sizes = self.generation.sizes
        local = local_ports(LOCAL_PORTS.read_text(encoding="ascii")) if name else range(0)
        problem = snat_problem(sizes.nat_first_port, sizes.nat_ports, local)
        return f"service {name}: {problem}" if problem else ""

    # ---- parts

    def _check(self) -> None:
        self.services.check(self._index.services.keys())
        self.reals.check(self._index.users.keys())
        self.ring_numbers.check(self._index.rings)
        for version, count in self._index.fronts_of_version.items():
            if count > self.generation.sizes.services:
                raise MapFull(
                    f"{count} addresses and ports of services (IPv{version}) are wanted, the maps hold "
                    f"{self.generation.sizes.services}; raise xdp_services"
                )

    def _install(self, lists: Iterable[tuple[Prefixes, Class]], denied: Iterable[Network]) -> None:
        numbers = self.lists.classes
        found = [(networks, numbers[kind]) for networks, kind in lists]
        self.lists.install([*found, (Prefixes.of(denied), numbers["deny"])])

    def _put_reals(self, changed: Changed) -> None:
        """And what their services have of it: those are added to `changed`."""
        for key in changed.reals & self._index.users.keys():
            users = self._index.users[key]
            mac = self._macs.get(key.address, NO_MAC)
            state: State = "up" if any(use.weight for use in users.values()) else "draining"
            # Ill for one service, it may be well for another: its state is about all of them.
            ill = all((name, key) in self._out for name in users)
            if ill or (mac == NO_MAC and any(use.sent_to for use in users.values())):
                state = "down"
            if self.real_state(key) != state:
                changed.services |= users.keys()
            self._put_real(key, Real(key.address, mac, state, key.port))

    def _is_able(self, one: WantedService, key: RealKey) -> bool:
        return self.real_state(key) == "up" and (one.name, key) not in self._out

    def _able(self, one: WantedService, version: int) -> tuple[WantedReal, ...]:
        return eligible(one.reals_for(version), lambda key: self._is_able(one, key))

    def _put_real(self, key: RealKey, real: Real) -> None:
        if self._reals.get(key) != real:
            self.tables.put_real(self.reals.take(key), real)
            self._reals[key] = real
            self._numbers_kept = False

    def _put_rings(self, services: Iterable[WantedService]) -> None:
        """Those that are made of something else now; alike ones one after the other, for the table of each
        is made once."""
        due: list[tuple[RingKey, tuple[WantedReal, ...]]] = []
        for one in services:
            versions = {front.address.version for front in one.fronts}
            for key, version in {ring_key(one, v): v for v in versions if one.balanced}.items():
                chosen = self._able(one, version)
                self.ring_numbers.take(key)
                if not self.rings.is_made_of(key, chosen):
                    due.append((key, chosen))
        for key, chosen in sorted(due, key=lambda ring: [str(one.key) for one in ring[1]]):
            table = self._maker.table_of(chosen, self.reals.__getitem__)
            reals = frozenset(self.reals[one.key] for one in chosen)
            self.rings.bring(key, self.ring_numbers[key], table, reals, recipe=chosen)
            self._numbers_kept = False
        self.rings.flush()

    def _service(self, one: WantedService, front: Front) -> Service:
        if not one.balanced:
            return Service(
                id=self.services.take(one.name), address=front.address, port=front.port,
                protocol=front.protocol, bytes=byte_rate(one.ingress_bits),
                packets=rate(one.packets_per_second), syns=rate(one.syn_per_second),
            )  # fmt: skip
        forward = one.forward
        reals = self._able(one, front.address.version)
        if forward == "echo" and one.reals and not reals:
            # Nobody is well: the ring is empty, and the packet is dropped or passed as for any service.
            forward = "gue"
        return Service(
            id=self.services.take(one.name), address=front.address, port=front.port, protocol=front.protocol,
            forward=forward, ring=self.ring_numbers[ring_key(one, front.address.version)],
            mtu=self._room(reals) if forward == "gue" and reals else 0,
            pass_without_real=one.pass_without_real,
            hash_addresses=one.hash_addresses and forward in ("gue", "dsr"),
            packets=rate(one.packets_per_second), syns=rate(one.syn_per_second),
            dscp=None if one.qos is None else DSCPS[one.qos],
        )  # fmt: skip

    def _room(self, reals: Iterable[WantedReal]) -> int:
        versions = {real.key.address.version for real in reals}
        return self.mtu - max(_OUTER_BYTES[version] for version in versions)

    def _let_go(self, changed: Changed) -> None:
        """What nobody names any more; reals that are gone keep their flows until `release`."""
        self.fronts.delete(changed.fronts)
        # A difference with a mapping's keys would walk all of these.
        for name in changed.services:
            if name not in self._index.services:
                self.services.give_back(name)
        for key in changed.rings:
            if (number := self.ring_numbers.give_back(key)) is not None:
                self.rings.drop(key, number)
        for real in changed.reals:
            if real in self._index.users:
                self._leaving.discard(real)
            elif self.reals.get(real) is not None:
                self._leaving.add(real)
                if self.real_state(real) == "up":
                    self._put_real(real, replace(self._reals[real], state="draining"))
        if changed.services:
            self._numbers_kept = False

    def leaving(self) -> list[RealKey]:
        """Reals that nobody wants any more, which may still have flows."""
        return sorted(self._leaving, key=str)

    def settle(self, wanted: Wanted) -> bool:
        """Finalise slots in which no flow is pinned, let go reals that no flow leads to. True if any was.

        Only then may a number be given to another real. Raises OSError.
        """
        moved = {
            self.ring_numbers[key]: key
            for key in self.rings.moving()
            if self._silent_ones_had_their_time(key, wanted)
        }
        leaving = self.leaving()
        if not moved and not leaving:
            return False
        pinned = pinned_slots(self.generation, rings=ByNumber(self.rings, moved)) if moved else {}
        changed = False
        for number, key in moved.items():
            done = self.rings[key].moved_slots() - pinned.get(number, set())
            if done:
                self.rings.finalise(key, done)
                self._touched.append(frozenset({key[0]}))
                changed = True
        self.rings.flush()
        held = pinned_reals(self.generation) if leaving else set()
        previous = {real for ring in self.rings.placed.values() for real in ring.reals}
        for gone in leaving:
            if self.reals[gone] not in held | previous:
                self._release(gone)
                changed = True
        return changed

    def _silent_ones_had_their_time(self, key: RingKey, wanted: Wanted) -> bool:
        """NAT knows its flows; another flow is known only once it sent a packet since the ring moved."""
        one = wanted.services.get(key[0])
        if one is None or one.forward in ("nat", "echo"):
            return True
        datagrams = all(front.protocol == UDP for front in one.fronts)
        idle_s = (self._settings or Settings()).flow_idle_s if datagrams else IDLE_S
        return time.monotonic() - self.rings.placed[key].moved_s > idle_s

    def _release(self, key: RealKey) -> None:
        if (number := self.reals.give_back(key)) is not None:
            self.tables.delete_real(number)
        self._reals.pop(key, None)
        self._leaving.discard(key)
        self._numbers_kept = False

    # ---- what runs already

    def keep_numbers(self) -> None:
        """On file, for a program whose tables have another layout. To be called every second or so, and
        before the end. Raises OSError."""
        if self._numbers_kept:
            return
        self._files.write_numbers(
            {
                "services": dict(self.services.items()),
                "rings": [[*key, number] for key, number in self.ring_numbers.items()],
                "reals": [
                    [str(key.address), key.port, number, one.mac.hex(), one.state]
                    for key, number in self.reals.items()
                    if (one := self._reals.get(key)) is not None
                ],
            }
        )
        self._numbers_kept = True

    def _reals_of(self, kept: Iterable[tuple[str, int, int, str, State]]) -> dict[RealKey, int]:
        found: dict[RealKey, int] = {}
        down: set[RealKey] = set()
        for address, port, number, mac, state in kept:
            key = RealKey(ip_address(address), port)
            found[key] = number
            # Flows lead to it by its number, also where nobody wants it any more.
            self._put_again(key, number, Real(key.address, bytes.fromhex(mac), state, port))
            if state == "down" and bytes.fromhex(mac) != NO_MAC:
                down.add(key)
        self.found_down = frozenset(down)
        return found

    def _put_again(self, key: RealKey, number: int, real: Real) -> None:
        self.tables.put_real(number, real)
        self._reals[key] = real
        if real.mac != NO_MAC:
            self.found_macs[key.address] = real.mac
