"""The clouds' DNS on the lab's networks: one authoritative server, by UDP and TCP, beside the clients.

A client is where its address is known to be, or the network that its resolver names (EDNS client subnet).
"""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

from lab.fabric.names import Answer, Choice, Name, Place, answer, place_of
from lab.fabric.routes import Asked

PORT = 53
_LARGEST_BYTES = 1232
_WAIT_S = 5.0


@dataclass(frozen=True)
class Known:
    """What is answered now; replaced as a whole."""

    names: Mapping[str, Name] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    well: Collection[Asked] = ()


def reply(known: Known, query: dns.message.Message, source: str) -> dns.message.Message:
    """The answer to one message."""
    made = dns.message.make_response(query, our_payload=_LARGEST_BYTES)
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        made.set_rcode(dns.rcode.NOTIMP)
        return made
    [question] = query.question
    subnet = next((one for one in query.options if isinstance(one, dns.edns.ECSOption)), None)
    asks = f"{subnet.address}/{subnet.srclen}" if subnet and subnet.srclen else source
    name = question.name.to_text(omit_final_dot=True).lower()
    found = answer(known.names, name, place=place_of(known.places, asks), well=known.well, pick=_by_weight)
    if found is None:
        made.set_rcode(dns.rcode.REFUSED)
        return made
    made.flags |= dns.flags.AA
    if subnet:
        made.use_edns(options=[dns.edns.ECSOption(subnet.address, subnet.srclen, subnet.srclen)])
    _fill(made, question.rdtype, found)
    return made


def _fill(made: dns.message.Message, rdtype: int, found: Answer) -> None:
    for owner, ttl, target in found.aliases:
        made.answer.append(dns.rrset.from_text(f"{owner}.", ttl, "IN", "CNAME", f"{target}."))
    if rdtype in (dns.rdatatype.A, dns.rdatatype.ANY) and found.addresses:
        made.answer.append(dns.rrset.from_text(f"{found.owner}.", found.ttl_s, "IN", "A", *found.addresses))
    elif rdtype != dns.rdatatype.CNAME or not found.aliases:
        # Who learns that there is nothing of this type keeps that no longer than an answer.
        numbers = f"1 3600 600 86400 {found.ttl_s}"
        words = f"ns.{found.owner}. hostmaster.{found.owner}. {numbers}"
        made.authority.append(dns.rrset.from_text(f"{found.owner}.", found.ttl_s, "IN", "SOA", words))


def _by_weight(choices: Sequence[Choice]) -> Choice:
    weights = [choice.weight for choice in choices]
    return random.choices(choices, weights if any(weights) else None)[0]


class Server:
    """Listens on an address of whatever namespace it is made in, until it is closed."""

    def __init__(self, address: str, port: int = PORT) -> None:
        self.known = Known()
        ours = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sender = self.request
                if said := ours._answered(data, self.client_address[0], limit=_LARGEST_BYTES):
                    sender.sendto(said, self.client_address)

        class Stream(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(_WAIT_S)
                with contextlib.suppress(OSError, struct.error):
                    while head := self.request.recv(2, socket.MSG_WAITALL):
                        [length] = struct.unpack("!H", head)
                        data = self.request.recv(length, socket.MSG_WAITALL)
                        said = ours._answered(data, self.client_address[0], limit=0xFFFF)
                        self.request.sendall(struct.pack("!H", len(said)) + said)

        self._servers: list[socketserver.BaseServer] = []
        try:
            stream = _Stream((address, port), Stream)
            self._servers.append(stream)
            self.port: int = stream.server_address[1]
            self._servers.append(_Datagrams((address, self.port), Datagram))
        except OSError:
            self.close()
            raise
        for server in self._servers:
            Thread(target=server.serve_forever, daemon=True).start()

    def _answered(self, data: bytes, source: str, *, limit: int) -> bytes:
        try:
            return reply(self.known, dns.message.from_wire(data), source).to_wire(max_size=limit)
        except dns.exception.TooBig:
            return b""
        except dns.exception.DNSException:
            return b""

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Stream(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True


class _Datagrams(socketserver.ThreadingUDPServer):
    allow_reuse_address, daemon_threads = True, True
