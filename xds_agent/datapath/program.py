"""Load the XDP program: sizes, features, shared maps, the verifier's verdict; then run it on packets.

A `Generation` is one loaded copy of the program. The next one takes over the maps of the one before (`maps`),
so flows, counters and lists live on; a map whose layout or size changed starts empty, and `fresh` names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xds_agent.datapath.btf import Btf
from xds_agent.datapath.info import cookies_missing, verified_instructions
from xds_agent.datapath.layout import Layout, layout_hash, map_layouts
from xds_agent.datapath.libbpf import test_run
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Kept, Object

PROGRAM = "xdp_main"
COOKIE_PROGRAM = "xdp_cookie"
OWN = ("stages",)  # maps that belong to one generation: its programs are in them
NAT_WAYS = 8  # slots a flow may have in one set: a cache line of them
ABORTED, DROP, PASS, TX, REDIRECT = range(5)
_NAT = ("nat_sets", "nat_flows", "nat_geometry")
_BY_SLOT = (*_NAT, "nat_fragments")  # whose rows speak of slots of NAT's table
# Whose rows speak of services and reals by number.
BY_NUMBER = (
    "rings", "flows", "flows_new", *_BY_SLOT, "counters", "monitored", "real_counters", "service_cells",
    "service_answers",
)  # fmt: skip
_BY_SERVICE = ("services4", "services6", "service_cells", "service_answers", "rings")


# A ring each, and a flow has 16 bits for the number of its ring (nat_flow).
MOST_SERVICES = 1 << 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """Capacities fixed at load."""

    services: int = 1024
    reals: int = 4096
    limit_blocks: int = 32768
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
        if self.services > MOST_SERVICES:
            return f"services: {self.services} is more than {MOST_SERVICES}"
        return None


@dataclass(frozen=True, slots=True)
class Features:
    """Stages compiled in, and seeds. The defaults are what hosts run: proofs, tests and benches run it too.

    `limit_seed` is a secret of the host, `balance_seed` one of the site. Keep both: translated flows are
    found by them, and with others NAT's table starts empty.
    """

    acl: bool = True
    limit: bool = True
    balance: bool = True
    nat: bool = True
    sampling: bool = True
    local_sockets: bool = True
    syn_cookies: bool = True
    limit_seed: int = 0
    balance_seed: int = 0


@dataclass
class Generation:
    """A loaded program. `close` gives back everything that is not pinned or attached.

    `fresh`: maps that start empty; `missing`: features asked for that this kernel has not, in words.
    """

    path: Path
    btf: Btf
    sizes: Sizes
    program_fd: int
    instructions: int
    reasons: dict[str, int]
    maps: dict[str, Map]
    layout: str
    layouts: dict[str, str]
    fresh: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    _object: Object | None = field(default=None, repr=False)

    def run(self, frame: bytes, *, repeat: int = 1) -> tuple[int, bytes]:
        """Verdict and the frame afterwards."""
        return test_run(self.program_fd, frame, repeat=repeat, room=len(frame) + 256)

    def fd(self, program: str) -> int:
        """Descriptor of another program of the object, while it is open. Raises KeyError."""
        if self._object is None:
            raise KeyError(f"{program}: this generation is closed")
        return self._object.fd(program)

    def kept(self) -> Kept:
        """What the next generation takes over."""
        return Kept(self.layout, {name: table.fd for name, table in self.maps.items()}, self.layouts)

    def struct(self, name: str) -> Layout:
        return Layout(self.btf, self.btf.number(name))

    def enum(self, name: str) -> dict[str, int]:
        return self.btf.enum(name)

    def close(self) -> None:
        if self._object is not None:
            self._object.close()
            self._object = None


def layouts_of(path: Path) -> dict[str, str]:
    """The layout of each map of an object; nothing is loaded. Raises Unavailable, OSError."""
    opened = Object(path, PROGRAM)
    try:
        return map_layouts(opened.btf, opened.plain_maps(), opened.nested_maps())
    finally:
        opened.close()


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
    opened = Object(path, PROGRAM)
    try:
        missing = cookies_missing() if features.syn_cookies else None
        cookies = features.syn_cookies and missing is None
        if not cookies:
            opened.leave_out(COOKIE_PROGRAM)
        layouts = map_layouts(opened.btf, opened.plain_maps(), opened.nested_maps())
        opened.resize(_rows(opened, sizes))
        opened.set_constant("features", _constants(features, sizes, cookies=cookies))
        kept = predecessor.kept() if isinstance(predecessor, Generation) else predecessor
        geometry = _geometry(features, sizes)
        meaningless = _meaningless(opened.btf, kept, geometry, layouts)
        fresh = opened.share(kept, layouts, anew=[*OWN, *anew, *meaningless])
        opened.load()
        program = opened.fd(PROGRAM)
        generation = Generation(
            path=path,
            btf=opened.btf,
            sizes=sizes,
            program_fd=program,
            instructions=verified_instructions(program),
            reasons={name: n for name, n in opened.btf.enum("reason").items() if name != "REASONS"},
            maps=opened.typed(),
            layout=layout_hash(layouts),
            layouts=layouts,
            fresh=tuple(name for name in fresh if name not in OWN),
            missing=(missing,) if missing else (),
            _object=opened,
        )
        generation.maps["nat_geometry"].put(0, geometry)
        if cookies:
            stage = generation.enum("stage")["STAGE_COOKIE"]
            generation.maps["stages"].put(stage, opened.fd(COOKIE_PROGRAM))
        return generation
    except BaseException:
        opened.close()
        raise


def _rows(opened: Object, sizes: Sizes) -> dict[str, int]:
    """Rows of the maps that are sized at load."""
    # The object says how many rows a service has: its own size is for SERVICES_DEFAULT services.
    default = opened.rows("services4")
    return {
        **dict.fromkeys(_BY_SERVICE, sizes.services),
        **{name: opened.rows(name) // default * sizes.services for name in ("counters", "monitored")},
        **dict.fromkeys(("reals", "real_counters"), sizes.reals),
        **dict.fromkeys(("flows", "flows_new"), sizes.flows),
        "limit_blocks": sizes.limit_blocks,
        "nat_sets": sizes.nat_flows // NAT_WAYS,
        "nat_flows": sizes.nat_flows,
    }


def _constants(features: Features, sizes: Sizes, *, cookies: bool) -> dict[str, int]:
    return {
        "acl": features.acl,
        "limit": features.limit,
        "balance": features.balance,
        "local_sockets": features.local_sockets,
        "nat": features.nat,
        "cookies": cookies,
        "sampling": features.sampling,
        "nat_first_port": sizes.nat_first_port,
        "nat_sets": sizes.nat_ports // NAT_WAYS,
        "nat_bank_mask": sizes.nat_banks - 1,
        "limit_mask": sizes.limit_blocks - 1,
        "limit_seed": features.limit_seed,
        "balance_seed": features.balance_seed,
    }


def _geometry(features: Features, sizes: Sizes) -> dict[str, int]:
    """What a slot of NAT's table means."""
    seed = hashlib.sha256(f"{features.limit_seed} {features.balance_seed}".encode()).digest()
    return {
        "first_port": sizes.nat_first_port,
        "sets": sizes.nat_ports // NAT_WAYS,
        "bank_mask": sizes.nat_banks - 1,
        "seed": int.from_bytes(seed[:4], "big"),
    }


def _meaningless(
    btf: Btf, predecessor: Kept | None, geometry: Mapping[str, int], layouts: Mapping[str, str]
) -> tuple[str, ...]:
    """Maps of the predecessor whose rows mean something else to us, though they look the same."""
    fd = predecessor.fds.get("nat_geometry") if predecessor else None
    if predecessor is None or fd is None:
        return ()
    if any(predecessor.layouts.get(name) != layouts[name] for name in _NAT):
        return _BY_SLOT  # halves of one table
    key, value = btf.map_types("nat_geometry")
    held = Map("nat_geometry", fd, key=Layout(btf, key), value=Layout(btf, value))
    return () if held.get(0) == geometry else _BY_SLOT
