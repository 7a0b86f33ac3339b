"""A million prefixes on an agent's way from a revision to the maps: read, painted and walked once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.packets import Packet
from xds_agent.datapath.acl import AccessLists
from xds_agent.datapath.prefixes import Network, Prefixes
from xds_agent.datapath.program import DROP, PASS
from xds_agent.datapath.services import Settings
from xds_agent.node.datapath.reading import Reader
from xds_agent.node.datapath.rings import RingFiles
from xds_agent.node.datapath.writer import Writer
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import ACCESS_LIST, DATAPATH_SERVICE, REALS, Resource, Snapshot

MILLION = 1_000_000
WIDE = 900_000
OWN, VIP = ip_address("203.0.113.1"), ip_address("203.0.114.1")
MACS = {ip_address(f"10.1.0.{number}"): bytes([2, 0, 0, 0, 0, number]) for number in (1, 2)}


def denied(number: int) -> IPv4Address:
    """A source that the list denies: /24 side by side, then single addresses far from each other."""
    return IPv4Address(0x0B000000 + number * 256 if number < WIDE else 0x30000000 + number * 512)


@pytest.fixture(scope="module")
def deny() -> Resource:
    packed = b"".join(
        struct.pack(">IB", int(denied(number)), 24 if number < WIDE else 32) for number in range(MILLION)
    )
    return Resource.of(ACCESS_LIST, "deny", pb.AccessList(name="deny", ipv4=packed))


def revision(deny: Resource, *, packets_per_second: int) -> Snapshot:
    service = pb.Service(
        name="dns", protocol=pb.UDP, port=53, forward=pb.GUE, vip=True, packets_per_second=packets_per_second
    )
    reals = pb.Reals(service="dns")
    for address in MACS:
        reals.reals.add(address=address.packed, port=53, weight=1)
    return Snapshot.of(
        [deny, Resource.of(DATAPATH_SERVICE, "dns", service), Resource.of(REALS, "dns", reals)]
    )


def test_an_edit_and_a_health_change_leave_a_million_prefixes_alone(
    loaded: Loader, deny: Resource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health has a second and a half; walking them takes longer on a busy host."""
    reader, writer = Reader(), Writer(loaded(), rings=RingFiles(tmp_path), mtu=1500)
    wanted = reader.read(revision(deny, packets_per_second=0), own=[OWN], vips=[VIP])
    writer.apply(wanted, Settings(), MACS, ())
    for number in (0, WIDE - 1, WIDE, MILLION - 1):
        for offset, fate in ((0, DROP), (512 + 256, PASS if number >= WIDE - 1 else DROP)):
            packet = Packet(source=str(denied(number) + offset), destination=str(OWN), dport=9)
            assert writer.generation.run(packet.bytes())[0] == fate, packet

    def walked(self: object, *_: object) -> Iterator[Network]:
        raise AssertionError("the million was walked again")

    monkeypatch.setattr(Prefixes, "__iter__", walked)
    monkeypatch.setattr(AccessLists, "install", walked)
    one, other = (writer.reals[key] for key, _ in writer.reals.items())
    ill = next(key for key, number in writer.reals.items() if number == one)
    writer.apply(wanted, Settings(), MACS, {("dns", ill)})
    assert set(writer.rings["dns", 0].current) == {other}
    wanted = reader.read(revision(deny, packets_per_second=100), own=[OWN], vips=[VIP])
    writer.apply(wanted, Settings(), MACS, ())
    assert set(writer.rings["dns", 0].current) == {one, other}
    writer.rings.close()
