"""The node agent's datapath in real networks: client, edge and backend on three of them.

What an inventory says is compiled, applied by a process in the edge's namespace, and met by real sockets.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.host.networks import (
    HEALTH,
    OTHER_LAYOUT_OF_REALS,
    PATIENCE_S,
    TEN_MIB,
    VIP,
    Backend,
    Edge,
    Networks,
    datagrams,
    greeting,
    ip,
    service,
    until,
    within,
)
from tests.bpf.test_loading import changed

pytestmark = pytest.mark.root


def test_ten_mebibytes_both_ways_across_three_networks(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp"), service("udp")) == ""
    with networks.client((VIP, 7100)) as connection:
        stream = connection.makefile("rb")
        assert stream.readline() == b"real\n"
        sent = os.urandom(TEN_MIB)
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        received = stream.read(TEN_MIB)
        sender.join()
    assert received == sent
    with within(networks.name("client"), lambda: datagrams(("10.99.1.2", 0))) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(b"datagram", (VIP, 7100))
        answer, source = client.recvfrom(1 << 16)
    assert (answer, source) == (b"real\ndatagram", (VIP, 7100))
    counters = edge.ask("counters")
    assert counters["echo-tcp"]["send_nat"] > 0 and counters["echo-tcp"]["send_answer"] > 0
    assert counters["echo-udp"]["send_nat"] == 1


def test_open_connections_are_counted_by_service_until_they_close(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    """What a change of tier would reset. A request that nobody confirmed is no connection."""
    backend("real")
    assert edge.apply(service("tcp"), service("udp")) == ""
    assert edge.ask("flows") == {"echo-tcp": 0, "echo-udp": 0}
    opened = [networks.client((VIP, 7100)) for _ in range(3)]
    assert [greeting(one) for one in opened] == ["real"] * 3
    assert edge.ask("flows") == {"echo-tcp": 3, "echo-udp": 0}
    opened.pop().close()
    until(lambda: edge.ask("flows")["echo-tcp"] == 2, "a connection that was closed still counts")
    assert edge.apply(service("udp")) == ""
    assert edge.ask("flows") == {"echo-udp": 0}
    for one in opened:
        one.close()


def test_a_dead_agent_changes_nothing_and_its_successor_takes_over(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
        before = edge.ask("state")["services"][0]
        edge.kill()
        connection.sendall(b"alone")
        assert connection.recv(64) == b"alone"
        with networks.client((VIP, 7100)) as another:
            assert greeting(another) == "real"
        assert edge.start() == ""
        connection.sendall(b"and with a successor")
        assert connection.recv(64) == b"and with a successor"
        after = edge.ask("state")["services"][0]
    assert (after["id"], after["reals"][0]["number"]) == (before["id"], before["reals"][0]["number"])
    assert edge.ask("counters")["echo-tcp"]["send_nat"] > 0


def test_a_release_with_another_layout_of_reals_and_services_keeps_connections(
    networks: Networks,
    program: Path,
    edge: Edge,
    backend: Callable[[str], Backend],
    bpffs: Path,
    tmp_path: Path,
) -> None:
    """Their tables start empty and are written again under the same numbers; NAT's table is shared."""
    backend("real")
    assert edge.apply(service("tcp"), service("udp")) == ""
    before = edge.ask("state")["services"]
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
        edge.kill()
        newer = changed(program, tmp_path / "newer", "types.h", *OTHER_LAYOUT_OF_REALS)
        edge = Edge(networks, newer, tmp_path, bpffs, VIP)
        try:
            assert edge.start() == ""
            connection.sendall(b"under another layout")
            assert connection.recv(64) == b"under another layout"
            after = edge.ask("state")["services"]
            with networks.client((VIP, 7100)) as another:
                assert greeting(another) == "real"
            assert edge.ask("counters")["echo-tcp"]["send_nat"] > 5
        finally:
            edge.kill()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert [one["reals"][0]["number"] for one in after] == [one["reals"][0]["number"] for one in before]


def test_the_next_priority_takes_over_and_flows_stay(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    first, _ = backend("real"), backend("other")
    wanted = service("tcp", "real", "other", health=HEALTH, steering={"order": ["real", "other"]})
    assert edge.apply(wanted) == ""
    edge.until(lambda found: found["services"][0]["served"])
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    first.stop()
    edge.until(lambda found: found["services"][0]["reals"][0]["state"] == "down")
    with networks.client((VIP, 7100)) as during:
        assert greeting(during) == "other"
        backend("real")
        edge.until(lambda found: found["services"][0]["reals"][0]["state"] == "up")
        with networks.client((VIP, 7100)) as back:
            assert greeting(back) == "real"
        during.sendall(b"still with the other")
        assert during.recv(64) == b"still with the other"


def test_no_healthy_real_is_counted_and_answered_as_the_inventory_says(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    ping = service("icmp", health={**HEALTH, "port": 7000}, listen={"address": "vip"})
    assert edge.apply(service("tcp", health=HEALTH), ping) == ""
    edge.until(lambda found: not any(one["served"] for one in found["services"]))
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7100), timeout_s=1.0)
    assert edge.ask("counters")["echo-tcp"]["drop_no_real"] > 0
    assert edge.apply(service("tcp", health=HEALTH, when_no_real="pass"), ping) == ""
    with pytest.raises(ConnectionRefusedError):
        networks.client((VIP, 7100))


def test_denied_by_prefix_and_released_again(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp"), protection={"deny": ["10.99.1.0/24"]}) == ""
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7100), timeout_s=1.0)
    assert edge.ask("counters")["echo-tcp"]["drop_denied"] > 0
    assert edge.apply(service("tcp"), protection={"deny": ["10.99.1.0/24"], "monitor": True}) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    assert edge.apply(service("tcp")) == ""
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_ports_of_the_kernels_own_connections_are_not_translated_to(networks: Networks, edge: Edge) -> None:
    def kernels(ports: str) -> None:
        networks.run("edge", "sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}")

    words = (
        "service echo-tcp: NAT's ports 20000 to 32767 overlap net.ipv4.ip_local_port_range (30000 to 60999)"
    )
    kernels("30000 60999")
    assert words in edge.apply(service("tcp"))
    kernels("32768 60999")
    assert edge.apply(service("tcp")) == ""
    kernels("30000 60999")
    edge.until(lambda found: words in found["problem"])
    kernels("32768 60999")
    edge.until(lambda found: not found["problem"])


def test_without_control_no_change_is_taken(networks: Networks, edge: Edge) -> None:
    assert edge.apply(service("tcp")) == ""
    edge.ask("control", "away")
    assert "control is away" in edge.apply(service("udp"))
    edge.ask("control", "back")
    assert [one["name"] for one in edge.ask("state")["services"]] == ["echo-tcp"]
    assert edge.apply(service("udp")) == ""


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (service("tcp", forward="dsr", listen={"address": "vip", "port": 7000},
                 endpoints=[{"address": "10.99.3.2", "port": 7000, "cloud": "lab"}]),
         "service echo-tcp: dsr needs real 10.99.3.2 on the link, and it is behind 10.99.2.1"),
        (service("tcp", endpoints=[{"address": f"10.99.3.{n}", "port": 7000} for n in range(2, 72)]),
         "70 reals are wanted, the maps hold 63; raise xdp_reals"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_the_set_before_forwards(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], wanted: dict[str, Any], words: str
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    assert words in edge.apply(wanted)
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_a_route_that_turns_elsewhere_costs_that_real_alone(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    """The agent goes on following all the others, and says what it found."""
    first, _ = backend("real"), backend("other")
    wanted = service("tcp", "real", "other", health=HEALTH)
    assert edge.apply(wanted) == ""
    networks.run("edge", "ip", "link", "add", "elsewhere", "type", "veth", "peer", "name", "nowhere")
    for end in ("nowhere", "elsewhere"):
        networks.run("edge", "ip", "link", "set", end, "up")
    networks.run("edge", "ip", "route", "add", "10.99.4.2/32", "dev", "elsewhere")
    found = edge.until(lambda found: "another interface" in found["services"][0]["reals"][0]["why"])
    assert [real["state"] for real in found["services"][0]["reals"]] == ["down", "up"]
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    first.stop()
    edge.until(lambda found: found["services"][0]["reals"][1]["state"] == "down")


def test_a_card_that_went_and_came_back_has_the_datapath_again(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend]
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    ip("-n", networks.name("edge"), "link", "del", "eth0")
    networks.join("edge")
    index = networks.index("edge")
    edge.until(lambda found: found["interfaces"][0]["index"] == index and not found["problem"])
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"


def test_a_vip_that_is_anothers_now_is_taken_away(
    networks: Networks, program: Path, edge: Edge, bpffs: Path, tmp_path: Path
) -> None:
    """What the operator set by hand stays."""
    networks.run("edge", "ip", "addr", "add", "10.99.2.50/32", "dev", "eth0")
    edge.kill()
    successor = Edge(networks, program, tmp_path, bpffs, "10.99.2.101")
    try:
        assert successor.start() == ""
        shown = subprocess.run(
            ["ip", "-n", networks.name("edge"), "-o", "-4", "addr", "show", "dev", "eth0"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    finally:
        successor.kill()
    addresses = {line.split()[3] for line in shown.splitlines()}
    assert addresses == {"10.99.2.2/24", "10.99.2.50/32", "10.99.2.101/32"}


def test_another_program_on_the_card_is_named(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    pass_program = str(program.parent / "xdp_pass.bpf.o")
    ip("-n", networks.name("edge"), "link", "set", "dev", "eth0", "xdpdrv", "obj", pass_program, "sec", "xdp")
    edge = Edge(networks, program, tmp_path, bpffs)
    try:
        problem = edge.start()
        assert "eth0 carries another XDP program already (xdp_pass" in problem
        assert "does not run" in edge.apply(service("tcp"))
    finally:
        edge.kill()


def test_pins_need_a_bpf_file_system(networks: Networks, program: Path, tmp_path: Path) -> None:
    edge = Edge(networks, program, tmp_path, tmp_path / "pins")
    try:
        assert f"is not on a BPF file system: mount -t bpf bpf {tmp_path}" in edge.start()
    finally:
        edge.kill()
