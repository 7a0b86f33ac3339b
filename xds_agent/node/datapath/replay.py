"""A packet through the program that runs, stage by stage: what it would meet, and what says so.

A second copy of the program is loaded that shares the live tables and lists, and has counters, limits and
flows of its own: live traffic neither changes the answer nor sees the packet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xds_agent.datapath.counters import Counters
from xds_agent.datapath.prefixes import Network
from xds_agent.datapath.program import DROP, PASS, TX, Features, Generation, Sizes, load
from xds_agent.model.site import find_origin
from xds_agent.node.datapath import pcapng
from xds_agent.node.datapath.pinned import Pinned
from xds_agent.node.datapath.wanted import Address, Wanted

# What decides is shared with the live program; what counts or remembers is the copy's own.
_SHARED = frozenset({"services4", "services6", "reals", "rings", "settings", "acl4", "acl4_long", "acl6"})
_VERDICTS = {DROP: "dropped", PASS: "passed to the host", TX: "sent on by XDP"}
_VLANS = frozenset({0x8100, 0x88A8})
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}


@dataclass(frozen=True, slots=True)
class Headers:
    """As far as words need them; the program parses for itself."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0

    def __str__(self) -> str:
        name = _PROTOCOLS.get(self.protocol, f"protocol {self.protocol}")
        if not self.destination_port and not self.source_port:
            return f"{name} from {self.source} to {self.destination}"
        return (
            f"{name} from {self.source} port {self.source_port} "
            f"to {self.destination} port {self.destination_port}"
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's word about the packet. `path`: where in the inventory it is said; `origin`: file and line
    of that, where the inventory is at hand."""

    stage: str
    text: str
    path: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the packet."""

    verdict: str
    reason: str
    stages: tuple[Stage, ...]


class Replayer:
    """Runs packets; `close` it."""

    def __init__(
        self, pinned: Pinned, state: Mapping[str, Any], wanted: Wanted, *, balance_seed: int
    ) -> None:
        """Raises OSError, Unavailable."""
        self._state, self._wanted = state, wanted
        sizes = state["sizes"]
        own = frozenset(pinned.maps) - _SHARED
        self._generation: Generation = load(
            Path(state["program"]),
            sizes=Sizes(services=sizes["services"], reals=sizes["reals"], flows=sizes["flows"]),
            features=Features(local_sockets=False, syn_cookies=False, balance_seed=balance_seed),
            predecessor=pinned.kept, anew=own,
        )  # fmt: skip
        self._names: dict[int, str] = {0: "host", **{one["id"]: one["name"] for one in state["services"]}}

    def run(self, frame: bytes) -> Replayed:
        """Raises OSError for a frame the kernel does not take (shorter than an Ethernet header)."""
        counters = Counters(self._generation)
        before = self._counts(counters)
        verdict, after = self._generation.run(frame)
        grown = [key for key, count in self._counts(counters).items() if count > before.get(key, 0)]
        reasons = [key for key in grown if not key[1].startswith("note_")] or [("host", "unknown")]
        service, reason = reasons[0]
        notes = [name for _, name in grown if name.startswith("note_")]
        stages = tuple(self._stages(headers_of(frame), headers_of(after), service, reason, notes, verdict))
        return Replayed(_VERDICTS.get(verdict, f"verdict {verdict}"), reason, stages)

    def close(self) -> None:
        self._generation.close()

    def _counts(self, counters: Counters) -> dict[tuple[str, str], int]:
        return {
            (name, reason): count.packets
            for number, name in self._names.items()
            for reason, count in counters.service(number).items()
        }

    def _stages(
        self,
        head: Headers | None,
        after: Headers | None,
        service: str,
        reason: str,
        notes: list[str],
        verdict: int,
    ) -> Iterator[Stage]:
        if head is None:
            yield Stage("parse", f"neither IPv4 nor IPv6 that could be read: {reason}")
            return
        yield Stage("parse", str(head))
        name = self._service(head)
        yield Stage(
            "classify",
            f"service {name}" if name else "no service of XDP",
            f"services[{name}]" if name else "",
        )
        yield self._access(head, reason)
        if reason.endswith("_rate"):
            yield Stage("limit", f"over its rate: {reason}", _limit_path(reason, service))
        if notes:
            yield Stage("noted", ", ".join(notes))
        if verdict == TX and after is not None:
            yield Stage("forward", f"leaves as {after}", f"services[{service}].forward")
        path = f"services[{service}]" if service != "host" else ""
        yield Stage("verdict", f"{reason}, counted for {service}", path)

    def _service(self, head: Headers) -> str:
        for one in self._state["services"]:
            for front in one["fronts"]:
                where = (front["address"], front["port"], front["protocol"])
                if where == (str(head.destination), head.destination_port, head.protocol):
                    return str(one["name"])
        return ""

    def _access(self, head: Headers, reason: str) -> Stage:
        matches = [
            (network, kind)
            for network, kind in self._wanted.rules
            if network.version == head.source.version and head.source in network
        ]
        matches += [(net, "deny") for net, _ in self._wanted.timed if _holds(net, head.source)]
        if not matches:
            return Stage("access lists", f"{head.source} is on none")
        network, kind = max(matches, key=lambda one: one[0].prefixlen)
        if kind == "exempt":
            return Stage("access lists", f"{network} is exempt from lists and limits", "protection.allow")
        return Stage("access lists", f"{network} is denied", "protection.deny")


def with_origins(found: Replayed, edge: Mapping[str, Any], origins: Mapping[str, str]) -> Replayed:
    """The same with file and line of each stage, by an inventory's document. Pure."""
    stages = []
    for stage in found.stages:
        path = _exact(stage, edge)
        origin = find_origin(origins, path) if path else None
        stages.append(replace(stage, path=path, origin=origin or ""))
    return replace(found, stages=tuple(stages))


def _exact(stage: Stage, edge: Mapping[str, Any]) -> str:
    """Of a list of networks the very entry that decided, if the inventory names it."""
    listed = (edge.get("protection") or {}).get(stage.path.rpartition(".")[2])
    if not stage.path.startswith("protection.") or not isinstance(listed, list):
        return stage.path
    network = stage.text.split(" ", 1)[0]
    for at, text in enumerate(listed):
        with contextlib.suppress(ValueError):
            if str(ipaddress.ip_network(str(text))) == network:
                return f"{stage.path}[{at}]"
    return stage.path


def _holds(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _limit_path(reason: str, service: str) -> str:
    if reason == "drop_ssh_rate":
        return "protection.ssh_packets_per_second"
    return f"services[{service}].packet_limit" if "service" in reason else "protection.per_source"


def headers_of(frame: bytes) -> Headers | None:
    """Addresses and ports of an Ethernet frame with up to two tags; None for what is no IP."""
    at = 12
    while at + 4 <= len(frame) and int.from_bytes(frame[at : at + 2], "big") in _VLANS:
        at += 4
    kind, at = int.from_bytes(frame[at : at + 2], "big"), at + 2
    try:
        if kind == _IPV4:
            protocol, size = frame[at + 9], (frame[at] & 15) * 4
            source: Address = ipaddress.IPv4Address(frame[at + 12 : at + 16])
            destination: Address = ipaddress.IPv4Address(frame[at + 16 : at + 20])
        elif kind == _IPV6:
            protocol, size = frame[at + 6], 40
            source = ipaddress.IPv6Address(frame[at + 8 : at + 24])
            destination = ipaddress.IPv6Address(frame[at + 24 : at + 40])
        else:
            return None
        ports = struct.unpack_from("!HH", frame, at + size) if protocol in (6, 17) else (0, 0)
    except (IndexError, ipaddress.AddressValueError, struct.error):
        return None
    return Headers(source, destination, protocol, *ports)


def frames_of(data: bytes) -> list[bytes]:
    """Frames of a pcap or pcapng file (Ethernet). Raises ValueError with what is wrong."""
    if data[:4] == pcapng.MAGIC:
        return pcapng.frames(data)
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<"}
    order = orders.get(data[:4])
    if order is None:
        raise ValueError("this is neither a pcap file nor a pcapng file")
    [link] = struct.unpack_from(f"{order}I", data, 20)
    if link != 1:
        raise ValueError(f"the capture is not of Ethernet (link type {link})")
    found, at = [], 24
    while at + 16 <= len(data):
        _, _, size, _ = struct.unpack_from(f"{order}IIII", data, at)
        found.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return found
