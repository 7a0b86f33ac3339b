"""What tc does for services of this host, from the inventory to the wire: classes, marks, rates, cookies."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.test_lockout import until
from tests.bpf.test_node_agent import (
    PATIENCE_S,
    VIP,
    Backend,
    Edge,
    Networks,
    backend,
    bpffs,
    edge,
    greeting,
    networks,
    within,
)
from xds_agent.datapath.info import cookies_missing

__all__ = ["backend", "bpffs", "edge", "networks"]  # fixtures
pytestmark = pytest.mark.root
PORT = 7000  # of Backend, which stands for Envoy here
MIB = 1024 * 1024


@pytest.fixture
def proxy(backend: Callable[[str], Backend]) -> Iterator[Backend]:
    """Something on the edge itself that serves."""
    yield backend("edge")


def by_envoy(protocol: str, **more: Any) -> dict[str, Any]:
    endpoints = [{"address": "10.99.3.2", "port": 7000}]
    listen = {"address": "edge", "port": PORT}
    one = {"name": f"shaped-{protocol}", "protocol": protocol, "tier": "l7", "listen": listen}
    return {**one, "endpoints": endpoints, **more}


def classes(networks: Networks) -> dict[str, dict[str, str]]:
    """Of HTB, by handle; each word that follows another, as tc says them."""
    shown = subprocess.run(
        ["ip", "netns", "exec", networks.name("edge"), "tc", "-s", "class", "show", "dev", "eth0"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = {}
    for block in shown.split("class htb ")[1:]:
        words = block.split()
        found[words[0]] = dict(itertools.pairwise(words))
    return found


def asked(networks: Networks, data: bytes = b"datagram") -> tuple[bytes, int]:
    """A datagram's answer as the client gets it, and its TOS."""
    client = within(networks.name("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client:
        client.settimeout(PATIENCE_S)
        client.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        client.sendto(data, ("10.99.2.2", PORT))
        answer, said, _, _ = client.recvmsg(1 << 16, 64)
        [tos] = [value[0] for level, kind, value in said if (level, kind) == (0, socket.IP_TOS)]
        return answer, tos


def test_a_class_marks_what_the_proxy_sends(networks: Networks, edge: Edge, proxy: Backend) -> None:
    assert edge.apply(by_envoy("udp", qos="P0")) == ""
    assert asked(networks) == (b"edge\ndatagram", 46 << 2)
    assert edge.ask("counters")["shaped-udp"]["note_egress"] == 1
    edge.kill()
    assert asked(networks)[1] == 46 << 2, "a dead agent takes no mark away"
    assert edge.start() == "" and edge.apply(by_envoy("udp", qos="P3")) == ""
    assert asked(networks)[1] == 8 << 2
    assert edge.apply(by_envoy("udp")) == ""
    assert asked(networks)[1] == 0


def test_a_bandwidth_is_a_class_of_its_own_below_that_of_its_qos(
    networks: Networks, edge: Edge, proxy: Backend
) -> None:
    """An edit changes it in place; without it the class is gone."""
    assert edge.apply(by_envoy("tcp", qos="P1", bandwidth={"egress": "800mbit"})) == ""
    number = next(one["id"] for one in edge.ask("state")["services"])
    handle = f"1:{0x100 + number:x}"
    assert classes(networks)[handle]["parent"] == "1:11"
    with networks.client(("10.99.2.2", PORT)) as connection:
        stream = connection.makefile("rb")
        assert stream.readline() == b"edge\n"
        sender = threading.Thread(target=connection.sendall, args=(bytes(MIB),))
        sender.start()
        assert stream.read(MIB) == bytes(MIB)
        sender.join()
    assert int(classes(networks)[handle]["Sent"]) > MIB
    assert edge.apply(by_envoy("tcp", qos="P0", bandwidth={"egress": "400mbit"})) == ""
    found = classes(networks)[handle]
    assert (found["parent"], found["rate"]) == ("1:10", "400Mbit")
    assert edge.apply(by_envoy("tcp")) == ""
    assert handle not in classes(networks)


def test_what_comes_beyond_a_bandwidth_is_dropped_by_xdp(
    networks: Networks, edge: Edge, proxy: Backend
) -> None:
    assert edge.apply(by_envoy("udp", bandwidth={"ingress": "1mbit"})) == ""
    assert asked(networks)[0] == b"edge\ndatagram"
    client = within(networks.name("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client:
        for _ in range(200):
            client.sendto(bytes(1400), ("10.99.2.2", PORT))
    until(lambda: edge.ask("counters")["shaped-udp"].get("drop_service_bytes", 0) > 0, "nothing was dropped")
    assert edge.ask("counters")["shaped-udp"]["pass_kernel"] > 0


def test_a_root_of_somebody_elses_is_named_and_nothing_changes(networks: Networks, edge: Edge) -> None:
    networks.run("edge", "tc", "qdisc", "add", "dev", "eth0", "root", "handle", "7:", "tbf",
                 "rate", "1gbit", "burst", "100k", "latency", "10ms")  # fmt: skip
    words = edge.apply(by_envoy("tcp", bandwidth={"egress": "10mbit"}))
    assert "eth0: tbf stands at the root of its egress, and not by us" in words
    assert edge.ask("state")["services"] == []


def test_a_flood_of_requests_is_answered_by_cookies_for_listeners_alone(
    networks: Networks, edge: Edge, proxy: Backend
) -> None:
    if cookies_missing():
        pytest.skip(cookies_missing() or "")
    assert edge.apply(protection={"syn_cookies_above": 1}) == ""
    for _ in range(20):
        with networks.client(("10.99.2.2", PORT)) as connection:
            assert greeting(connection) == "edge"
    host = edge.ask("counters")["host"]
    assert host["send_cookie"] >= 15 and host["note_cookie_accepted"] == host["send_cookie"]
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            networks.client(("10.99.2.2", 7999))
    assert edge.ask("counters")["host"]["send_cookie"] == host["send_cookie"]
    assert edge.apply() == ""
    with networks.client(("10.99.2.2", PORT)) as connection:
        assert greeting(connection) == "edge"
    assert edge.ask("counters")["host"]["send_cookie"] == host["send_cookie"]


def test_a_card_that_comes_back_is_shaped_again(networks: Networks, edge: Edge, proxy: Backend) -> None:
    assert edge.apply(by_envoy("udp", qos="P0", bandwidth={"egress": "10mbit"})) == ""
    subprocess.run(["ip", "-n", networks.name("edge"), "link", "del", "eth0"], check=True)
    networks.join("edge")
    edge.until(lambda found: found["interfaces"][0]["index"] == networks.index("edge"))
    until(
        lambda: any(one.startswith("1:10") and len(one) > 4 for one in classes(networks)),
        "no classes on the new card",
    )
    assert asked(networks)[1] == 46 << 2


NOBODY = 65534
RIGHTS = ("bpf", "net_admin", "perfmon", "net_raw")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the agent's user may reach; pytest's own are root's."""
    folder = Path(f"/run/mp-test-{uuid.uuid4().hex[:8]}")
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_rights_of_the_agents_unit_suffice_for_all_of_it(
    networks: Networks, program: Path, bpffs: Path, place: Path, proxy: Backend
) -> None:
    """Probation, proof, marks, classes and cookies, as role xds_agent runs it: no root."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs the Debian package util-linux")
    bpffs.mkdir()
    os.chown(bpffs, NOBODY, NOBODY)
    given = ",".join(f"+{one}" for one in RIGHTS)
    edge = Edge(
        networks, program, place, bpffs, VIP,
        rights=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                f"--inh-caps=-all,{given}", f"--ambient-caps=-all,{given}", f"--bounding-set=-all,{given}"),
    )  # fmt: skip
    wanted = by_envoy("udp", qos="P1", bandwidth={"egress": "100mbit"})
    protection = {} if cookies_missing() else {"syn_cookies_above": 1000}
    try:
        assert edge.start() == ""
        assert edge.apply(wanted, protection=protection) == ""
        assert asked(networks)[1] == 34 << 2
        until((place / "datapath.confirmed").exists, "the program was never confirmed")
        edge.kill()
        assert edge.start() == ""
        assert asked(networks)[1] == 34 << 2
        assert edge.apply(by_envoy("udp")) == ""
        assert asked(networks)[1] == 0
    finally:
        edge.kill()
