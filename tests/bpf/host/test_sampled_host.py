"""Samples on a host: the commands a person has at 3 a.m., and the flow log that the inventory asks for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bpf.host.networks import (
    PATIENCE_S,
    ROOT,
    VIP,
    Backend,
    Edge,
    Networks,
    datagrams,
    service,
    until,
    within,
)
from tests.bpf.host.shaped import over_https
from tests.bpf.support.packets import SYN, Packet
from xds_agent.node.datapath.pcapng import frames

pytestmark = pytest.mark.root
Backends = Callable[[str], Backend]
CLIENT, OWN = "10.99.1.2", "10.99.2.2"


@pytest.fixture
def node_yml(tmp_path: Path, program: Path, bpffs: Path) -> Path:
    node = {
        "name": "edge1", "control": ["10.99.2.1:18000"], "control_names": ["control1"],
        "tls": {name: str(tmp_path / name) for name in ("certificate", "key", "ca")},
        "runtime_dir": str(tmp_path), "state_dir": str(tmp_path), "envoy": {"present": False},
        "datapath": {"interfaces": ["eth0"], "vips": [VIP], "program": str(program), "pins": str(bpffs)},
    }  # fmt: skip
    (tmp_path / "node.yml").write_text(yaml.safe_dump(node))
    return tmp_path / "node.yml"


def command(networks: Networks, node_yml: Path, *words: str) -> list[str]:
    return [
        "nsenter", f"--net=/run/netns/{networks.name('edge')}", sys.executable, "-m", "xds_agent",
        "datapath", *words, "--config", str(node_yml),
    ]  # fmt: skip


def send(networks: Networks, port: int, count: int) -> None:
    """Datagrams of the client, one every millisecond."""
    with within(networks.name("client"), lambda: datagrams((CLIENT, 5000))) as client:
        for number in range(count):
            client.sendto(f"datagram {number}".encode(), (VIP, port))
            time.sleep(0.001)


def test_a_capture_has_what_was_dropped_and_what_was_sent_on(
    networks: Networks, edge: Edge, backend: Backends, node_yml: Path, tmp_path: Path
) -> None:
    """By the command: packets that no tcpdump sees, each with its fate, none of them taken away."""
    backend("real")
    assert edge.apply(service("tcp"), service("udp"), protection={"deny": ["10.99.4.0/24"]}) == ""
    out = tmp_path / "x.pcap"
    words = command(networks, node_yml, "capture", "--service", "echo-udp", "-o", str(out), "--count", "3")
    process = subprocess.Popen([*words, "--json"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(out.exists, "no capture began")
        with within(networks.name("client"), lambda: datagrams((CLIENT, 5000))) as client:
            client.settimeout(PATIENCE_S)
            client.sendto(b"one", (VIP, 7100))
            assert client.recvfrom(100)[0] == b"real\none", "a capture takes nothing away"
            with within(networks.name("other"), lambda: datagrams(("10.99.4.2", 5000))) as denied:
                denied.sendto(b"denied", (VIP, 7100))
                _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    told = json.loads(said)
    assert told == {"captured": 3, "afxdp": ["copy"], "lost": {}} and process.returncode == 0
    data = out.read_bytes()
    assert {b"send_nat, service echo-udp", b"send_answer, service echo-udp",
            b"drop_denied, service echo-udp"} <= {*comments(data)}  # fmt: skip
    assert sum(comment.endswith(b"as it left") for comment in comments(data)) == 2
    assert [frame[-3:] for frame in frames(data)] == [b"one", b"one", b"ied"]
    explained = subprocess.run(
        [*command(networks, node_yml)[:5], "explain-packet", str(out), "--config",
         str(node_yml), "--json"], cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(explained.stdout)[2]["reason"] == "drop_denied"


def test_top_gives_each_packet_to_its_tier_and_status_says_what_ails_the_log(
    networks: Networks, edge: Edge, backend: Backends, node_yml: Path, tmp_path: Path
) -> None:
    """By the commands: a service of XDP's, one that it leaves to the host's proxy, HTTP, whose answers tc
    sees and does nothing about, and a denied network. The log cannot be written where a folder has its
    name."""
    backend("real")
    (tmp_path / "flows.jsonl").mkdir()
    left = service("udp") | {"name": "left", "tier": "l7", "qos": "P1"}
    left["listen"] = {**left["listen"], "address": "edge", "port": 7200}
    web, names = over_https()
    asked = {"deny": ["10.99.4.0/24"], "flow_log": {"one_in": 1, "every": "1s"}}
    assert edge.apply(service("udp"), left, web, protection=asked, **names) == ""
    words = command(networks, node_yml, "top", "--count", "1", "--interval", "5", "--json")
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        with (
            within(networks.name("client"), lambda: datagrams((CLIENT, 5000))) as client,
            within(networks.name("other"), lambda: datagrams(("10.99.4.2", 5000))) as denied,
        ):
            while process.poll() is None:
                client.sendto(b"balanced", (VIP, 7100))
                client.sendto(b"left", (OWN, 7200))
                with pytest.raises(ConnectionRefusedError):
                    networks.client((OWN, 443))
                denied.sendto(b"denied", (VIP, 7100))
                time.sleep(0.01)
        assert process.stdout is not None
        tiers = json.loads(process.stdout.read())["tiers"]
    finally:
        process.kill()
        process.wait()
    met = {"xdp dropped", "xdp balanced", "envoy http", "envoy udp_proxy"}
    assert {tier for tier, rate in tiers.items() if rate} - met <= {"host and envoy's other ports"}, tiers
    assert all(tiers[tier] for tier in met), tiers
    assert edge.ask("counters")["envoy/https"]["note_egress"]
    frame = Packet(source=CLIENT, destination=OWN, dport=443, flags=SYN, payload=b"").bytes()
    explain = [*command(networks, node_yml)[:5], "explain-packet", "--hex", frame.hex(), "--json"]
    told = subprocess.run([*explain, "--config", str(node_yml)], cwd=ROOT, capture_output=True, check=True)
    paths = {one["stage"]: (one["text"], one["path"]) for one in json.loads(told.stdout)[0]["stages"]}
    assert paths["classify"] == ("Envoy's HTTP", "ports.https")
    assert paths["verdict"] == ("pass_kernel, counted for envoy/https", "ports.https")
    shown = command(networks, node_yml, "status")
    until(lambda: bool(edge.ask("state")["flow_log"]["problem"]), "the log's trouble is not told")
    said = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "the flow log is not written" in said
    (tmp_path / "flows.jsonl").rmdir()

    def well() -> bool:
        send(networks, 7100, 5)
        return not edge.ask("state")["flow_log"]["problem"]

    until(well, "the log is written again, and still called not")


def comments(data: bytes) -> Iterator[bytes]:
    """Of packets; each is the first option."""
    at = 0
    while at < len(data):
        kind, size = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4))
        if kind == 6:
            captured = int.from_bytes(data[at + 20 : at + 24], "little")
            option = at + 28 + captured + -captured % 4
            length = int.from_bytes(data[option + 2 : option + 4], "little")
            yield data[option + 4 : option + 4 + length]
        at += size


def test_packets_are_explained_as_they_fared(
    networks: Networks, edge: Edge, backend: Backends, node_yml: Path, tmp_path: Path
) -> None:
    """In the middle of a connection, both ways: the stand-in knows its translation, and names the real."""
    backend("real")
    assert edge.apply(service("tcp")) == ""
    out = tmp_path / "x.pcap"
    with networks.client((VIP, 7100)) as connection:
        stream = connection.makefile("rb")
        assert stream.readline() == b"real\n"
        words = command(networks, node_yml, "capture", "--service", "echo-tcp", "--incoming", "-o", str(out))
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            until(out.exists, "no capture began")
            connection.sendall(b"in the middle")
            assert stream.read(13) == b"in the middle"
            until(lambda: {*fates(out)} == {"send_nat", "send_answer"}, "no packets were captured")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        done = subprocess.run(
            [*command(networks, node_yml)[:5], "explain-packet", str(out), "--config", str(node_yml),
             "--json"], cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    explained = json.loads(done.stdout)
    assert [one["reason"] for one in explained] == fates(out)
    reals = {
        stage["text"] for one in explained for stage in one["stages"]
        if one["reason"] == "send_nat" and stage["stage"] == "balance"
    }  # fmt: skip
    assert reals == {"real 10.99.3.2 port 7000"}
    assert not any(stage["stage"] == "program" for one in explained for stage in one["stages"])


def fates(out: Path) -> list[str]:
    return [comment.partition(b",")[0].decode() for comment in comments(out.read_bytes())]


def test_a_capture_ends_by_a_signal_and_leaves_nothing(
    networks: Networks, edge: Edge, backend: Backends, node_yml: Path, tmp_path: Path
) -> None:
    """A second one is told; the interrupted one ends well, and its queue can be had at once."""
    backend("real")
    assert edge.apply(service("udp")) == ""
    for number in range(2):
        out = tmp_path / f"{number}.pcap"
        words = command(networks, node_yml, "capture", "-o", str(out))
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            until(out.exists, "no capture began")
            if number == 0:
                second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
                assert second.returncode == 1 and "another capture reader is at work" in second.stderr
            send(networks, 7100, 5)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, said
        assert "AF_XDP for what is dropped, copy mode on" in said and len(frames(out.read_bytes())) >= 5


def check_flows_by_command(networks: Networks, node_yml: Path) -> None:
    """It reads beside the log."""
    words = command(networks, node_yml, "flows", "--one-in", "1", "--every", "4", "--count", "1", "--json")
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            send(networks, 7100, 20)
        shown, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in shown.splitlines()]
    [there] = [line for line in lines if line.get("source") == CLIENT and line["protocol"] == "udp"]
    assert (there["destination"], there["destination_port"], there["source_port"]) == (VIP, 7100, 5000)
    assert (there["service"], there["reason"]) == ("echo-udp", "send_nat") and there["packets"] >= 20


def lines_of(tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "flows.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sums(tmp_path: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines_of(tmp_path):
        if line.get("source") == CLIENT:
            assert IPv4Address(line["destination"]) == IPv4Address(VIP)
            found[line["reason"]] += line["packets"]
    return found


def test_the_flow_log_is_written_while_the_inventory_asks_for_it(
    networks: Networks, edge: Edge, backend: Backends, node_yml: Path, tmp_path: Path
) -> None:
    """One in one: the log has as many packets as were counted. An agent that is killed loses its interval,
    and its successor goes on."""
    backend("real")
    asked = {"flow_log": {"one_in": 1, "every": "1s"}}
    assert edge.apply(service("udp"), protection=asked) == ""
    until(lambda: edge.ask("state")["flow_log"]["one_in"] == 1, "the log was not asked for")
    reading(networks, edge)
    before, start = sent_on(edge), sums(tmp_path)["send_nat"]
    send(networks, 7100, 50)
    until(lambda: sent_on(edge) >= before + 50, "packets are missing in the counters")
    assert sent_on(edge) == before + 50
    until(lambda: sums(tmp_path)["send_nat"] >= start + 50, "packets are missing in the log")
    assert {line["service"] for line in lines_of(tmp_path) if line.get("source") == CLIENT} == {"echo-udp"}
    check_flows_by_command(networks, node_yml)
    edge.kill()
    assert edge.start() == ""
    reading(networks, edge)
    assert edge.apply(service("udp")) == ""
    assert edge.ask("state")["flow_log"]["one_in"] == 0
    until(lambda: silent(networks, edge), "packets are sampled though nobody asks for it")


def sampled(edge: Edge) -> int:
    return sum(one.get("note_sampled", 0) for one in edge.ask("counters").values())


def sent_on(edge: Edge) -> int:
    """Datagrams to the real."""
    found: int = edge.ask("counters")["echo-udp"].get("send_nat", 0)
    return found


def reading(networks: Networks, edge: Edge) -> None:
    """Wait until packets are sampled, and all that were sent for it are counted."""
    begin, before, sent = sampled(edge), sent_on(edge), 0

    def more() -> bool:
        nonlocal sent
        send(networks, 7100, 1)
        sent += 1
        return sampled(edge) > begin

    until(more, "nothing is sampled")
    until(lambda: sent_on(edge) >= before + sent, "what was sent is not counted")


def silent(networks: Networks, edge: Edge) -> bool:
    begin = sampled(edge)
    send(networks, 7100, 3)
    return sampled(edge) == begin
