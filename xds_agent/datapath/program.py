"""Load the XDP program: sizes, features, shared maps, the verifier's verdict; then run it on packets.

A `Generation` is one loaded copy of the program. The next one takes over the maps of the one before (`maps`),
so flows, counters and lists live on; a map whose layout or size changed starts empty, and `fresh` names it.
"""

from __future__ import annotations

import ctypes as c
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xds_agent.datapath.btf import Btf
from xds_agent.datapath.info import map_info, verified_instructions
from xds_agent.datapath.layout import Layout, layout_hash
from xds_agent.datapath.libbpf import OpenOptions, Unavailable, check, library, test_run, words
from xds_agent.datapath.maps import Map

PROGRAM = "xdp_main"
NAT_WAYS = 8  # slots a flow may have in one set: a cache line of them
ABORTED, DROP, PASS, TX, REDIRECT = range(5)
_BY_SERVICE = ("services4", "services6", "service_cells", "service_answers", "rings")
_PER_CPU = frozenset({5, 6, 10})
_ARRAY_OF_MAPS = 12
# Two system calls want it; EPERM without it.
_NEEDS = "loading BPF programs needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Capacities fixed at load."""

    services: int = 1024
    reals: int = 4096
    limit_blocks: int = 65536
    flows: int = 65536
    nat_first_port: int = 20000
    nat_ports: int = 12768
    nat_banks: int = 16

    @property
    def nat_flows(self) -> int:
        """Flows that NAT can hold: a port is used once per bank."""
        return self.nat_ports * self.nat_banks

    def problem(self) -> str | None:
        """What is wrong with them, in words."""
        if self.limit_blocks < 1 or self.limit_blocks & (self.limit_blocks - 1):
            return f"limit_blocks: {self.limit_blocks} is not a power of two"
        if self.nat_banks < 1 or self.nat_banks & (self.nat_banks - 1):
            return f"nat_banks: {self.nat_banks} is not a power of two"
        if self.nat_ports < NAT_WAYS or self.nat_ports % NAT_WAYS:
            return f"nat_ports: {self.nat_ports} is not a multiple of {NAT_WAYS}"
        if not 1024 <= self.nat_first_port <= 65536 - self.nat_ports:
            given = f"{self.nat_ports} ports from {self.nat_first_port}"
            return f"nat_first_port: {given} are not within 1024 to 65535"
        if min(self.services, self.reals, self.flows) < 1:
            return "services, reals and flows must be at least 1"
        return None


@dataclass(frozen=True, slots=True)
class Features:
    """Stages compiled in, and seeds.

    `limit_seed` is a secret of the host, `balance_seed` one of the site. Keep both: translated flows are
    found by them, and with others NAT's table starts empty.
    """

    acl: bool = True
    limit: bool = True
    balance: bool = True
    nat: bool = True
    local_sockets: bool = False
    limit_seed: int = 0
    balance_seed: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """Maps to take over: their layout and descriptors. What a restarted agent finds pinned."""

    layout: str
    fds: Mapping[str, int]


@dataclass
class Generation:
    """A loaded program. `close` gives back everything that is not pinned or attached."""

    path: Path
    btf: Btf
    sizes: Sizes
    program_fd: int
    program: int
    instructions: int
    reasons: dict[str, int]
    maps: dict[str, Map]
    layout: str
    fresh: tuple[str, ...] = ()
    _object: int | None = field(default=None, repr=False)

    def run(self, frame: bytes, *, repeat: int = 1) -> tuple[int, bytes]:
        """Verdict and the frame afterwards."""
        return test_run(self.program_fd, frame, repeat=repeat, room=len(frame) + 256)

    def kept(self) -> Kept:
        """What the next generation takes over."""
        return Kept(self.layout, {name: table.fd for name, table in self.maps.items()})

    def struct(self, name: str) -> Layout:
        return Layout(self.btf, self.btf.number(name))

    def enum(self, name: str) -> dict[str, int]:
        return self.btf.enum(name)

    def close(self) -> None:
        if self._object is not None:
            library().bpf_object__close(self._object)
            self._object = None


def load(
    path: Path,
    *,
    sizes: Sizes | None = None,
    features: Features | None = None,
    predecessor: Generation | Kept | None = None,
    anew: Collection[str] = (),
) -> Generation:
    """Open, size, configure and load. Maps named in `anew` are not taken over: built aside, one update of the
    link puts them in place together.

    Raises:
        Unavailable: no libbpf, or no right to load programs.
        ValueError: sizes that cannot be.
        OSError: with the verifier's last lines where it refused.
    """
    sizes, features = sizes or Sizes(), features or Features()
    if problem := sizes.problem():
        raise ValueError(problem)
    if not path.exists():
        raise Unavailable(f"{path} is not there (make -C bpf builds it)")
    lib = library()
    options = OpenOptions(sz=c.sizeof(OpenOptions), object_name=PROGRAM.encode())
    pointer = lib.bpf_object__open_file(str(path).encode(), c.byref(options))
    check(pointer, f"opening {path}")
    try:
        btf = Btf.of_object(pointer)
        layout = layout_hash(
            btf, [name for name in _maps(pointer) if "." not in name and _plain(pointer, name)]
        )
        _resize(pointer, sizes)
        _configure(pointer, btf, features, sizes)
        kept = predecessor.kept() if isinstance(predecessor, Generation) else predecessor
        geometry = _geometry(features, sizes)
        fresh = _share(pointer, kept, layout, anew=[*anew, *_meaningless(btf, kept, geometry)])
        instructions = _load(pointer, path)
        program = lib.bpf_object__next_program(pointer, None)
        generation = Generation(
            path=path,
            btf=btf,
            sizes=sizes,
            program_fd=lib.bpf_program__fd(program),
            program=program,
            instructions=instructions,
            reasons={name: number for name, number in btf.enum("reason").items() if name != "REASONS"},
            maps=_typed(pointer, btf),
            layout=layout,
            fresh=fresh,
            _object=pointer,
        )
        generation.maps["nat_geometry"].put(0, geometry)
        return generation
    except BaseException:
        lib.bpf_object__close(pointer)
        raise


def _maps(pointer: int) -> dict[str, int]:
    lib, found = library(), {}
    current = lib.bpf_object__next_map(pointer, None)
    while current:
        found[lib.bpf_map__name(current).decode()] = current
        current = lib.bpf_object__next_map(pointer, current)
    return found


def _plain(pointer: int, name: str) -> bool:
    return int(library().bpf_map__type(_maps(pointer)[name])) != _ARRAY_OF_MAPS


def _resize(pointer: int, sizes: Sizes) -> None:
    maps = _maps(pointer)
    rows, drops = (maps[name] for name in ("counters", "monitored"))
    # The object says how many rows a service has: its own size is for SERVICES_DEFAULT services.
    default = library().bpf_map__max_entries(maps["services4"])
    per_service = {row: library().bpf_map__max_entries(row) // default for row in (rows, drops)}
    wanted = {
        **{maps[name]: sizes.services for name in _BY_SERVICE},
        **{maps[name]: sizes.reals for name in ("reals", "real_counters")},
        **{maps[name]: sizes.flows for name in ("flows", "flows_new")},
        **{row: count * sizes.services for row, count in per_service.items()},
        maps["limit_blocks"]: sizes.limit_blocks,
        maps["nat_sets"]: sizes.nat_flows // NAT_WAYS,
        maps["nat_flows"]: sizes.nat_flows,
    }
    for entry, count in wanted.items():
        check(library().bpf_map__set_max_entries(entry, count), "sizing a map")


def _configure(pointer: int, btf: Btf, features: Features, sizes: Sizes) -> None:
    values: Mapping[str, int] = {
        "acl": features.acl,
        "limit": features.limit,
        "balance": features.balance,
        "local_sockets": features.local_sockets,
        "nat": features.nat,
        "nat_first_port": sizes.nat_first_port,
        "nat_sets": sizes.nat_ports // NAT_WAYS,
        "nat_bank_mask": sizes.nat_banks - 1,
        "limit_mask": sizes.limit_blocks - 1,
        "limit_seed": features.limit_seed,
        "balance_seed": features.balance_seed,
    }
    packed = Layout(btf, btf.variable("features")).pack(values)
    entry = next(found for name, found in _maps(pointer).items() if name.endswith(".rodata"))
    size = c.c_size_t()
    memory = library().bpf_map__initial_value(entry, c.byref(size))
    c.memmove(memory + btf.offset_in(".rodata", "features"), packed, len(packed))


def _geometry(features: Features, sizes: Sizes) -> dict[str, int]:
    """What a slot of NAT's table means."""
    seed = hashlib.sha256(f"{features.limit_seed} {features.balance_seed}".encode()).digest()
    return {
        "first_port": sizes.nat_first_port,
        "sets": sizes.nat_ports // NAT_WAYS,
        "bank_mask": sizes.nat_banks - 1,
        "seed": int.from_bytes(seed[:4], "big"),
    }


def _meaningless(btf: Btf, predecessor: Kept | None, geometry: Mapping[str, int]) -> tuple[str, ...]:
    """Maps of the predecessor whose rows mean something else to us, though they look the same."""
    fd = predecessor.fds.get("nat_geometry") if predecessor else None
    if fd is None:
        return ()
    key, value = btf.map_types("nat_geometry")
    held = Map("nat_geometry", fd, key=Layout(btf, key), value=Layout(btf, value))
    return () if held.get(0) == geometry else ("nat_sets", "nat_flows", "nat_geometry")


def _share(pointer: int, predecessor: Kept | None, layout: str, *, anew: Collection[str]) -> tuple[str, ...]:
    """Take over the predecessor's maps where they are the same; the names of those that start empty."""
    if predecessor is None:
        return ()
    fresh = []
    for name, entry in _maps(pointer).items():
        if "." in name:
            continue  # .rodata belongs to one generation
        fd = predecessor.fds.get(name)
        if fd is None or name in anew or predecessor.layout != layout or not _same(fd, entry):
            fresh.append(name)
            continue
        check(library().bpf_map__reuse_fd(entry, fd), f"sharing map {name} with the generation before")
    return tuple(fresh)


def _same(fd: int, entry: int) -> bool:
    info, lib = map_info(fd), library()
    return (info.type, info.key_size, info.value_size, info.max_entries) == (
        lib.bpf_map__type(entry),
        lib.bpf_map__key_size(entry),
        lib.bpf_map__value_size(entry),
        lib.bpf_map__max_entries(entry),
    )


def _load(pointer: int, path: Path) -> int:
    """Load; returns the instructions the verifier walked through, the measure of a program's complexity."""
    with words() as said:
        result = library().bpf_object__load(pointer)
        if result < 0:
            text = "".join(said)
            if c.get_errno() == 1 or result == -1:
                raise Unavailable(_NEEDS)
            last = [
                line
                for line in text.splitlines()
                if not re.match(r"^(-- |libbpf: prog|libbpf: failed)", line)
            ]
            check(result, f"loading {path}; " + " | ".join(last[-3:]))
    program = library().bpf_object__next_program(pointer, None)
    return verified_instructions(library().bpf_program__fd(program))


def _typed(pointer: int, btf: Btf) -> dict[str, Map]:
    lib, found = library(), {}
    number = btf.map_types("reals")[0]  # any __u32: what outer maps have as key and value
    for name, entry in _maps(pointer).items():
        if "." in name:
            continue
        kind = lib.bpf_map__type(entry)
        key, value = (number, number) if kind == _ARRAY_OF_MAPS else btf.map_types(name)
        found[name] = Map(
            name,
            lib.bpf_map__fd(entry),
            key=Layout(btf, key),
            value=Layout(btf, value),
            per_cpu=kind in _PER_CPU,
        )
    return found
