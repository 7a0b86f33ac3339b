"""A packet through the program that runs, stage by stage: what it would meet, and what says so.

A stand-in of the program is asked (`stand_in`), which knows the flows, translations and limits of this
moment: live traffic neither changes the answer nor sees the packet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xds_agent.datapath.counters import Counters
from xds_agent.datapath.prefixes import Network
from xds_agent.datapath.program import DROP, PASS, TX
from xds_agent.model.ports import ENVOY_HTTP
from xds_agent.model.site import find_origin
from xds_agent.node.datapath import pcapng
from xds_agent.node.datapath.pinned import Pinned
from xds_agent.node.datapath.stand_in import other_programs, stand_in
from xds_agent.node.datapath.wanted import Address, Wanted

# What a fate or a note means, where its name alone does not say it.
_WORDS = {
    "pass_neighbour": "neighbours are never filtered",
    "pass_dhcp": "a lease is never denied, and within its own rates",
    "pass_ssh": "port 22 is never denied, and within its own rate",
    "pass_expected": "denied or over its rate, but a socket of this host is connected to that peer",
    "drop_nat_unknown": "in the middle of a connection that the table of translations does not know",
    "drop_no_real": "no healthy real", "pass_no_real": "no healthy real, and the service says: then pass",
    "send_cookie": "a cookie answers the request, not the kernel",
    "note_exempt": "its source is exempt from lists and limits",
    "note_flow_new": "its slot of the ring has moved; a flow that was not seen in it before",
    "note_flow_pinned": "its slot of the ring has moved; the flow stays where it is",
    "note_flow_remapped": "its real is gone; the flow went to another one",
    "note_nat_new": "a new translation", "note_nat_open": "its translation is confirmed",
}  # fmt: skip
# Without the inventory nobody can say which: all of these are one list on the host.
EXEMPT = "protection.allow, operators, a host or backend of the inventory, or a cloud's probes"
# By what limit a packet was one too many.
LIMITS = {
    "drop_source_rate": "protection.per_source.packets_per_second",
    "drop_syn_rate": "protection.per_source.syn_per_second",
    "drop_source_bytes": "protection.per_source.bits_per_second",
    "drop_ssh_rate": "protection.ssh_packets_per_second",
    "drop_dhcp_rate": "protection.allow",
    "drop_service_rate": "services[{service}].packet_limit.packets_per_second",
    "drop_service_syn_rate": "services[{service}].packet_limit.syn_per_second",
    "drop_service_bytes": "services[{service}].bandwidth.ingress",
    "drop_answer_bytes": "services[{service}].bandwidth.egress",
}
_CLASSIFIED = {"": "no service of XDP", **dict.fromkeys(ENVOY_HTTP, "Envoy's HTTP")}
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
        self, pinned: Pinned, state: Mapping[str, Any], wanted: Wanted, *, host_seed: int, balance_seed: int
    ) -> None:
        """Raises OSError, Unavailable."""
        self._state, self._lists = state, listed(wanted, now_s=time.time())
        self._generation = stand_in(pinned, state, host_seed=host_seed, balance_seed=balance_seed)
        try:
            self.doubts = other_programs(state, self._generation)
        except BaseException:
            self._generation.close()
            raise
        self._names: dict[int, str] = {0: "host", **{one["id"]: one["name"] for one in state["services"]}}
        self._reals = {one["name"]: one["reals"] for one in state["services"]}
        self._sent: dict[int, int] = {}

    def run(self, frame: bytes) -> Replayed:
        """Raises OSError for a frame the kernel does not take (shorter than an Ethernet header)."""
        counters = Counters(self._generation)
        before = self._counts(counters)
        verdict, after = self._generation.run(frame)
        grown = [key for key, count in self._counts(counters).items() if count > before.get(key, 0)]
        reasons = [key for key in grown if not key[1].startswith("note_")] or [("host", "unknown")]
        service, reason = reasons[0]
        notes = [name for _, name in grown if name.startswith("note_")]
        real = self._real(counters, service)
        heads = headers_of(frame), headers_of(after) if verdict == TX else None
        stages = tuple(self._stages(*heads, service, reason, notes, real))
        return Replayed(_VERDICTS.get(verdict, f"verdict {verdict}"), reason, stages)

    def _real(self, counters: Counters, service: str) -> str:
        """To which the packet went, "" if to none."""
        found = ""
        for real in self._reals.get(service, ()):
            number = real["number"]
            count = counters.real(number).packets if number else 0
            if count > self._sent.get(number, 0):
                self._sent[number] = count
                found = str(real["address"]) + (f" port {real['port']}" if real["port"] else "")
        return found

    def close(self) -> None:
        self._generation.close()

    def _counts(self, counters: Counters) -> dict[tuple[str, str], int]:
        return {
            (name, reason): count.packets
            for number, name in self._names.items()
            for reason, count in counters.service(number).items()
        }

    def _stages(
        self, head: Headers | None, after: Headers | None, service: str, reason: str, notes: list[str],
        real: str,
    ) -> Iterator[Stage]:  # fmt: skip
        for words in self.doubts.values():
            yield Stage("program", f"{words}; what follows is what that file would do")
        if head is None:
            yield Stage("parse", f"neither IPv4 nor IPv6 that could be read: {reason}")
            return
        yield Stage("parse", str(head))
        name = self._service(head)
        if not name and service != "host":
            yield Stage("classify", f"belongs to service {service} by its flow", f"services[{service}]")
        else:
            yield Stage("classify", _CLASSIFIED.get(name, f"service {name}"), _path_of(name))
        yield access(self._lists, head.source)
        if reason.endswith(("_rate", "_bytes")):
            path = LIMITS.get(reason, "").format(service=service)
            yield Stage("limit", f"over its rate: {reason}", path)
        for note in notes:
            yield Stage("noted", f"{note}: {_WORDS[note]}" if note in _WORDS else note)
        if real:
            yield Stage("balance", f"real {real}", f"services[{service}].endpoints")
        if after is not None:
            yield Stage("forward", f"leaves as {after}", f"services[{service}].forward")
        why = f" ({_WORDS[reason]})" if reason in _WORDS else ""
        yield Stage("verdict", f"{reason}{why}, counted for {service}", _path_of(service))

    def _service(self, head: Headers) -> str:
        for one in self._state["services"]:
            for front in one["fronts"]:
                where = (front["address"], front["port"], front["protocol"])
                if where == (str(head.destination), head.destination_port, head.protocol):
                    return str(one["name"])
        return ""


def _path_of(service: str) -> str:
    """Where the inventory says it; of the host's own packets, nowhere."""
    if service in ("", "host"):
        return ""
    return ENVOY_HTTP.get(service) or f"services[{service}]"


Listed = Mapping[bytes, str]
"""Class by network, packed with its length; of millions, one is found at once."""


def listed(wanted: Wanted, *, now_s: float) -> Listed:
    """What the lists say, in the order in which the last one counts. Pure."""
    found = {_packed(net): f"by hand until {until}" for net, until in wanted.timed if until > now_s}
    for networks, kind in wanted.lists:
        for size, packed in ((5, networks.ipv4), (17, networks.ipv6)):
            found.update(dict.fromkeys((packed[at : at + size] for at in range(0, len(packed), size)), kind))
    return found


def access(lists: Listed, source: Address) -> Stage:
    """What they say of a source: the longest network decides. Pure."""
    for length in range(source.max_prefixlen, -1, -1):
        network = ipaddress.ip_network((source, length), strict=False)
        kind = lists.get(_packed(network))
        if kind == "exempt":
            return Stage("access lists", f"{network} is exempt from lists and limits", EXEMPT)
        if kind == "deny":
            return Stage("access lists", f"{network} is denied", "protection.deny")
        if kind is not None:
            return Stage("access lists", f"{network} is denied {kind} (Unix time): xds-agent deny")
    return Stage("access lists", f"{source} is on none")


def _packed(network: Network) -> bytes:
    return network.network_address.packed + bytes([network.prefixlen])


def with_origins(
    found: Replayed, edge: Mapping[str, Any], origins: Mapping[str, str],
    hosts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Replayed:  # fmt: skip
    """The same with file and line of each stage, by an inventory's document. Pure."""
    stages = []
    for stage in found.stages:
        path = _exact(stage, edge, hosts or {})
        origin = find_origin(origins, path) if path else None
        stages.append(replace(stage, path=path, origin=origin or ""))
    return replace(found, stages=tuple(stages))


def _exact(stage: Stage, edge: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """Of what names networks the very entry that decided, if the inventory has it."""
    if not stage.path.startswith("protection."):
        return stage.path
    network, protection = stage.text.split(" ", 1)[0], edge.get("protection") or {}
    named = {f"protection.{key}": protection.get(key) for key in ("deny", "allow", "operators")}
    for key, listed in named.items():
        asked = key == stage.path or (stage.path == EXEMPT and key != "protection.deny")
        for at, text in enumerate(listed if asked and isinstance(listed, list) else ()):
            if _is(text, network):
                return f"{key}[{at}]"
    if stage.path != EXEMPT:
        return stage.path
    for name, host in hosts.items():
        for key in ("address", "private_address", "interconnect_endpoint"):
            if _is(host.get(key), network):
                return f"hosts.{name}.{key}"
    for service in edge.get("services") or ():
        for at, endpoint in enumerate(service.get("endpoints") or ()):
            if isinstance(endpoint, dict) and _is(endpoint.get("address"), network):
                return f"services[{service.get('name')}].endpoints[{at}]"
    return EXEMPT if not edge else "the clouds' metadata and health probes"


def _is(text: object, network: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_network(str(text))) == network
    return False


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
