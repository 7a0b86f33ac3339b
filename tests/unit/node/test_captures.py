"""Captures and the flow log: pcapng that is what its draft says, sums that are what the samples stand for."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.bpf.support.packets import TCP, UDP, Packet
from xds_agent.datapath.sampling import Sample
from xds_agent.node.datapath.flows import FlowTable
from xds_agent.node.datapath.pcapng import Writer
from xds_agent.node.datapath.replay import frames_of

NAMES = {0: "host", 7: "db"}
START_S = 1_800_000_000.0


def sample(packet: Packet, reason: str = "drop_denied", **more: object) -> Sample:
    frame, six = packet.bytes(), packet.version == 6
    ends = [ip_address(one).packed.ljust(16, b"\0") for one in (packet.source, packet.destination)]
    given: dict[str, object] = {
        "time_ns": int(START_S * 1e9) + 123_456_789, "reason": reason, "service": 7, "interface": 3,
        "queue": 1, "one_in": 1, "length": len(frame), "frame": frame,
        "flow": (*ends, packet.sport, packet.dport, packet.protocol, 6 if six else 4),
    }  # fmt: skip
    return Sample(**{**given, **more})  # type: ignore[arg-type]


def written(*samples: Sample) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, interfaces={2: "eth0", 3: "eth1"}, services=NAMES)
    for one in samples:
        writer.write(one)
    return out.getvalue()


def test_every_block_is_whole_and_says_what_the_draft_says() -> None:
    """Walked by hand: types, lengths at both ends, and the options of a packet."""
    data = written(sample(Packet(payload=b"odd"), frame=Packet(payload=b"odd").bytes()[:57]))
    kinds, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0 and struct.unpack_from("<I", data, at + size - 4) == (size,)
        kinds.append(kind)
        body, at = data[at + 8 : at + size - 4], at + size
    assert kinds == [0x0A0D0D0A, 1, 1, 6]
    row, high, low, captured, length = struct.unpack_from("<5I", body)
    assert (row, captured, length) == (1, 57, len(Packet(payload=b"odd").bytes()))
    assert high << 32 | low == int(START_S * 1e9) + 123_456_789
    options, at = {}, 20 + 60
    while (code := struct.unpack_from("<H", body, at)[0]) != 0:
        [size] = struct.unpack_from("<H", body, at + 2)
        options[code] = body[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    assert options == {
        1: b"drop_denied, service db",
        2: struct.pack("<I", 1),
        6: struct.pack("<I", 1),
        7: b"\x02" + struct.pack("<Q", 1),
    }


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs the Debian package tcpdump")
def test_another_reader_understands_it(tmp_path: Path) -> None:
    frames = [Packet(), Packet(source="2001:db8::7", destination="2001:db8::8", protocol=UDP, dport=53)]
    (tmp_path / "x.pcap").write_bytes(written(*map(sample, frames)))
    done = subprocess.run(
        ["tcpdump", "-nn", "-tt", "-r", tmp_path / "x.pcap"], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("1800000000.123456 IP 198.51.100.7.40000 > 203.0.113.1.443: Flags [.]")
    assert "IP6 2001:db8::7.40000 > 2001:db8::8.53" in lines[1]


def test_what_was_captured_can_be_explained() -> None:
    """`explain-packet` reads the file: packets as they came, not as they left."""
    came, left = Packet(), Packet(destination="10.1.0.1")
    data = written(sample(came, "send_nat"), sample(left, "send_nat", leaving=True), sample(came))
    assert frames_of(data) == [came.bytes()] * 2
    assert frames_of(data[:-8]) == [came.bytes()], "of a file that is still being written, all but its end"
    with pytest.raises(ValueError, match="damaged at byte"):
        frames_of(data[:4] + struct.pack("<I", 7) + data[8:])


def test_flows_are_summed_as_what_their_samples_stand_for() -> None:
    table, one, other = FlowTable(), Packet(), Packet(protocol=UDP, payload=bytes(1000))
    table.add([sample(one, one_in=100, frame=b"")] * 3 + [sample(other, "send_gue", one_in=100, frame=b"")])
    table.add([sample(one, one_in=100, leaving=True)])
    lines = table.take(NAMES, start_s=START_S, end_s=START_S + 10, one_in=100)
    assert lines == [
        {
            "start": "2027-01-15T08:00:00.000Z", "seconds": 10.0, "protocol": protocol,
            "source": "198.51.100.7", "source_port": 40000, "destination": "203.0.113.1",
            "destination_port": 443, "service": "db", "reason": reason, "packets": sampled * 100,
            "bytes": sampled * 100 * size, "sampled": sampled, "one_in": 100,
        }
        for protocol, reason, sampled, size in (
            ("udp", "send_gue", 1, len(other.bytes())), ("tcp", "drop_denied", 3, len(one.bytes())),
        )
    ]  # fmt: skip
    assert table.take(NAMES, start_s=0, end_s=1, one_in=100) == []


def test_a_flood_of_flows_shares_rows() -> None:
    """From any number of sources: as many rows as there is room for, and no packet is missing."""
    table = FlowTable(most=100)
    table.add(sample(Packet(sport=1024 + number, protocol=TCP), one_in=10) for number in range(5000))
    lines = table.take(NAMES, start_s=0, end_s=1, one_in=10)
    assert len(lines) == 101 and sum(line["packets"] for line in lines) == 50_000
    assert lines[0]["other_flows"] and "source" not in lines[0]
