"""The program for backends that edges reach by GUE: load it, tell it the edges, read what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from xds_agent.datapath.counters import Count, total
from xds_agent.datapath.info import verified_instructions
from xds_agent.datapath.libbpf import test_run
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Object
from xds_agent.datapath.services import GUE_PORT

PROGRAM, PASS_PROGRAM = "xdp_decap", "xdp_pass"


@dataclass
class Decap:
    """The loaded program; `Link.attach` takes it as it takes a `Generation`."""

    program_fd: int
    pass_fd: int
    instructions: int
    maps: dict[str, Map]
    _object: Object

    def counts(self) -> dict[str, Count]:
        """Reasons that are not zero, by name."""
        reasons = self._object.btf.enum("reason")
        found = {name.lower(): total(self.maps["counters"], number) for name, number in reasons.items()}
        return {name: count for name, count in found.items() if count and count.packets}

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """Verdict and the frame afterwards."""
        return test_run(self.program_fd, frame, room=len(frame) + 256)

    def close(self) -> None:
        self._object.close()


def load_decap(path: Path, *, accept: Sequence[IPv4Network | IPv6Network], gue_port: int = GUE_PORT) -> Decap:
    """`accept`: what edges send from (`tunnel_source4` and `6`); whoever else encapsulates is dropped.

    Raises:
        Unavailable: the object or libbpf is missing, or no right to load programs.
        OSError: the verifier's last lines, or a map that is full.
    """
    opened = Object(path, PROGRAM)
    try:
        opened.set_constant("tunnel", {"port": gue_port})
        opened.load()
        fd, maps = opened.fd(PROGRAM), opened.typed()
        for network in accept:
            address: object = int(network.network_address)
            if network.version == 6:
                address = network.network_address.packed
            maps[f"edges{network.version}"].put({"length": network.prefixlen, "address": address}, 1)
        return Decap(fd, opened.fd(PASS_PROGRAM), verified_instructions(fd), maps, opened)
    except BaseException:
        opened.close()
        raise
