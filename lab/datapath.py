"""What the lab asks of the datapath: clients in a network of their own, and the edges' own counters."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import struct
import time
from collections.abc import Callable

from lab import clients
from lab.checks import Check, Met, Site, echoed
from lab.place import HostSpec

TCP_PORT, UDP_PORT, METRICS_PORT = 7100, 7200, 8082
TIMEOUT_S = 20.0
AGAIN_S = 1.0
# An agent on a busy machine answers late; what is measured is what it says, not when.
METRICS_S = 30.0
# A denied client's connection is met with silence; this long is waited for it.
SILENCE_S = 1.0
# What one source sends at once, beyond its two hundred milliseconds' worth.
GREEDY_PACKETS = 4000
FLOOD_PACKETS, FLOOD_BURST = 20_000, 100
_LINE = re.compile(
    r'^marchproxy_datapath_packets_total\{reason="([^"]+)",service="([^"]+)"\} ([0-9.e+]+)$', re.M
)


def vip(proxy: HostSpec) -> str:
    """The address of the services (group_vars/l4 of the lab's inventory computes the same)."""
    head, _, last = proxy.address.rpartition(".")
    return f"{head}.{100 + int(last)}"


def counters(proxy: HostSpec) -> dict[tuple[str, str], int]:
    """(service, reason) -> packets, as the edge's own metrics say."""
    connection = http.client.HTTPConnection(proxy.address, METRICS_PORT, timeout=METRICS_S)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return {(service, reason): int(float(count)) for reason, service, count in _LINE.findall(text)}


def grown(before: dict[tuple[str, str], int], proxy: HostSpec, service: str, reason: str) -> int:
    return counters(proxy).get((service, reason), 0) - before.get((service, reason), 0)


def tcp(proxy: HostSpec, site: Site) -> Met:
    before = counters(proxy)
    message = f"ping {proxy.name}"
    with clients.connected(
        site.place, clients.ORDINARY, (vip(proxy), TCP_PORT), timeout_s=TIMEOUT_S
    ) as connection:
        connection.sendall(message.encode())
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    met = echoed(received, message)
    forwarded = grown(before, proxy, "echo-xdp", "send_nat")
    return Met(f"{met.words}, XDP forwarded", met.as_expected) if forwarded else Met("not by XDP", False)


def udp(proxy: HostSpec, site: Site) -> Met:
    message = f"datagram {proxy.name}"
    with clients.datagrams(site.place, clients.ORDINARY, timeout_s=TIMEOUT_S) as client:
        answer, source = _answered(client, message.encode(), (vip(proxy), UDP_PORT), lambda *_: True)
    met = echoed(answer, message)
    return met if source[0] == vip(proxy) else Met(f"answered by {source[0]}", False)


def ping(proxy: HostSpec, site: Site) -> Met:
    before = counters(proxy)
    with clients.pings(site.place, clients.ORDINARY, timeout_s=TIMEOUT_S) as client:
        echo = _echo_request()

        def fits(answer: bytes, source: str) -> bool:
            head = (answer[0] & 15) * 4
            return source == vip(proxy) and answer[head] == 0 and answer[head + 4 :] == echo[4:]

        _answered(client, echo, (vip(proxy), 0), fits)
    by_xdp = grown(before, proxy, "ping", "send_echo")
    return Met("answered by XDP" if by_xdp else "answered, not by XDP", by_xdp > 0)


def _answered(
    client: socket.socket, datagram: bytes, target: tuple[str, int], fits: Callable[[bytes, str], bool]
) -> tuple[bytes, tuple[str, int]]:
    """The first answer that fits (by its bytes and source). Asked again and again: a datagram may be lost."""
    deadline = time.monotonic() + TIMEOUT_S
    client.settimeout(AGAIN_S)
    while True:
        client.sendto(datagram, target)
        with contextlib.suppress(TimeoutError):
            while True:
                answer, source = client.recvfrom(65536)
                if fits(answer, source[0]):
                    return answer, source
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")


def _echo_request() -> bytes:
    body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + b"marchproxy lab" * 3
    total = sum(struct.unpack(f"!{len(body) // 2}H", body)) + 0x0800
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


def denied(proxy: HostSpec, site: Site) -> Met:
    before = counters(proxy)
    try:
        target = (proxy.address, 443)
        clients.connected(site.place, clients.DENIED, target, timeout_s=SILENCE_S).close()
    except TimeoutError:
        dropped = grown(before, proxy, "envoy/https", "drop_denied")
        return Met("silence, counted as denied" if dropped else "silence, not counted", dropped > 0)
    return Met("let in", False)


def limited(proxy: HostSpec, site: Site) -> Met:
    """One source sends at once what it may send in two seconds."""
    before = counters(proxy)
    with clients.datagrams(site.place, clients.GREEDY, timeout_s=TIMEOUT_S) as client:
        for _ in range(GREEDY_PACKETS):
            client.sendto(b"x" * 32, (vip(proxy), UDP_PORT))
    _settle(proxy)
    dropped = grown(before, proxy, "datagrams", "drop_source_rate")
    passed = grown(before, proxy, "datagrams", "send_nat")
    return (
        Met("some passed, the rest dropped", True)
        if dropped and passed
        else Met(f"{passed} passed, {dropped} dropped", False)
    )


def flood(proxy: HostSpec, site: Site) -> Met:
    """A denied source floods; an ordinary client's connection goes on meanwhile."""
    before = counters(proxy)
    with (
        clients.connected(
            site.place, clients.ORDINARY, (vip(proxy), TCP_PORT), timeout_s=TIMEOUT_S
        ) as open_one,
        clients.datagrams(site.place, clients.DENIED, timeout_s=TIMEOUT_S) as flooder,
    ):
        for number in range(FLOOD_PACKETS):
            flooder.sendto(b"x" * 32, (proxy.address, 9999))
            if number % FLOOD_BURST == 0:
                # No more at once than the ring of a veth holds: what it does not, XDP never sees.
                time.sleep(0.002)
            if number == FLOOD_PACKETS // 2:
                open_one.sendall(b"still here")
        received = b""
        while b"still here" not in received and (piece := open_one.recv(65536)):
            received += piece
    _settle(proxy)
    dropped = grown(before, proxy, "host", "drop_denied")
    good = dropped >= FLOOD_PACKETS * 0.9 and b"still here" in received
    return (
        Met("dropped in the driver, the client was answered", True)
        if good
        else Met(f"{dropped} of {FLOOD_PACKETS} dropped, answered: {b'still here' in received}", False)
    )


def _settle(proxy: HostSpec) -> None:
    """Until the counters stand still: packets are still on their way."""
    deadline, last = time.monotonic() + METRICS_S, -1
    while time.monotonic() < deadline:
        total = sum(counters(proxy).values())
        if total - last < 100:
            return
        last = total
        time.sleep(0.05)


EVERY_EDGE = (
    Check("XDP: TCP, translated", "echoed", tcp),
    Check("XDP: UDP, translated", "echoed from the vip", udp),
    Check("XDP: ping of the vip", "answered by XDP", ping),
    Check("XDP: a denied source", "silence, counted", denied),
    Check("XDP: a greedy source", "limited, not shut out", limited),
    Check("XDP: a bounded flood", "dropped, others answered", flood),
)
