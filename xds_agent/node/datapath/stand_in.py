"""A stand-in for the program that runs: the same object, features, tables and lists, with copies of all that
counts, remembers or limits. What it is asked, live traffic neither sees nor answers for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xds_agent.datapath.info import map_info, program_tag
from xds_agent.datapath.libbpf import check, library
from xds_agent.datapath.link import Link
from xds_agent.datapath.maps import Map, mapped
from xds_agent.datapath.program import Features, Generation, Sizes, load
from xds_agent.node.datapath.attachment import LINKS
from xds_agent.node.datapath.pinned import Pinned

# What programs only read is shared with the live one.
_SHARED = frozenset(
    {"services4", "services6", "service_answers", "reals", "rings", "settings", "acl4", "acl4_long", "acl6",
     "own_addresses"}
)  # fmt: skip
# What they write is copied: tables in memory at once, others row by row. Counters begin at zero.
_MEMORY = ("nat_sets", "nat_flows", "nat_fragments", "limit_blocks")
_ROWS = ("flows", "flows_new", "service_cells", "cookie_cell")


def stand_in(pinned: Pinned, state: Mapping[str, Any], *, host_seed: int, balance_seed: int) -> Generation:
    """Close it. Raises OSError, Unavailable."""
    sizes = state["sizes"]
    generation = load(
        Path(state["program"]),
        sizes=Sizes(
            services=sizes["services"], reals=sizes["reals"], flows=sizes["flows"],
            limit_blocks=map_info(pinned.kept.fds["limit_blocks"]).max_entries,
        ),
        # As attachment loads it.
        features=Features(
            local_sockets=True, syn_cookies=True, limit_seed=host_seed & 0xFFFFFFFF,
            balance_seed=balance_seed & 0xFFFFFFFF,
        ),
        predecessor=pinned.kept, anew=frozenset(pinned.maps) - _SHARED,
    )  # fmt: skip
    try:
        for name in _MEMORY:
            _copy_memory(pinned.maps[name], generation.maps[name])
        for name in _ROWS:
            rows = list(pinned.maps[name].entries())
            generation.maps[name].put_many([key for key, _ in rows], [value for _, value in rows])
    except BaseException:
        generation.close()
        raise
    return generation


def _copy_memory(live: Map, copy: Map) -> None:
    one, other = map_info(live.fd), map_info(copy.fd)
    if (one.value_size, one.max_entries) != (other.value_size, other.max_entries):
        raise OSError(0, f"map {live.name} has {one.max_entries} rows, and its copy {other.max_entries}")
    size = one.value_size * one.max_entries
    with mapped(live, size) as source, mapped(copy, size) as target:
        target[:] = source[:]


def other_programs(state: Mapping[str, Any], generation: Generation) -> dict[str, str]:
    """Interface -> words, for those on which another program runs than this object, or none."""
    found = {}
    wanted = program_tag(generation.program_fd)
    for one in state["interfaces"]:
        name = str(one["name"])
        link = Link.open(Path(state["pins"]) / LINKS / name)
        if link is None:
            found[name] = f"no program runs on {name}: it was taken off"
            continue
        with contextlib.closing(link):
            fd = library().bpf_prog_get_fd_by_id(link.program_id())
            check(fd, f"opening the program on {name}")
            try:
                if program_tag(fd) != wanted:
                    found[name] = f"the program on {name} is another one than {state['program']}"
            finally:
                os.close(fd)
    return found
