"""What tc does for services of this host, from the inventory to the wire: classes, marks, rates, cookies."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bpf.host.networks import (
    VIP,
    Backend,
    Edge,
    Networks,
    greeting,
    until,
    within,
)
from tests.bpf.host.shaped import (
    PORT,
    agent,
    asked,
    by_envoy,
    classes,
    filters,
    node_yml,
    over_https,
    roots,
    tc,
)
from xds_agent.datapath.info import cookies_missing

pytestmark = pytest.mark.root
MIB = 1024 * 1024


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


@pytest.fixture(params=[True, False], ids=["tcx", "clsact"])
def any_edge(
    request: pytest.FixtureRequest, networks: Networks, program: Path, tmp_path: Path, bpffs: Path
) -> Iterator[Callable[..., Edge]]:
    """Edges one after the other, of any interface; also as kernels before tcx have it."""
    made: list[Edge] = []

    def start(interface: str = "eth0") -> Edge:
        for one in made:
            one.kill()
        environment = {} if request.param else {"WITHOUT_TCX": "1"}
        made.append(
            Edge(networks, program, tmp_path, bpffs, VIP, interface=interface, environment=environment)
        )
        assert made[-1].start() == ""
        return made[-1]

    yield start
    for one in made:
        one.kill()


def test_an_interface_that_is_taken_out_keeps_nothing(
    networks: Networks, any_edge: Callable[..., Edge], proxy: Backend
) -> None:
    """Mark, filter and tree, by the next agent: the one that put them on is no more."""
    networks.run("edge", "ip", "link", "add", "spare", "type", "veth", "peer", "name", "spare-peer")
    networks.run("edge", "ip", "address", "add", "10.99.8.1/24", "dev", "spare")
    networks.run("edge", "ip", "link", "set", "spare", "up")
    kernels = roots(networks)
    edge = any_edge()
    assert edge.apply(by_envoy("udp", qos="P0", bandwidth={"egress": "10mbit"})) == ""
    assert asked(networks)[1] == 46 << 2
    any_edge("spare")
    assert asked(networks)[1] == 0
    assert roots(networks) == kernels and "tc_egress" not in filters(networks)


def test_detach_takes_the_marks_off_too_and_attach_puts_them_on(
    networks: Networks, any_edge: Callable[[], Edge], proxy: Backend, tmp_path: Path, bpffs: Path,
    program: Path,
) -> None:  # fmt: skip
    edge = any_edge()
    assert edge.apply(by_envoy("udp", qos="P0")) == ""
    assert asked(networks)[1] == 46 << 2
    sizes = {"services": 64, "reals": 64, "flows": 4096, "limit_blocks": 1024}
    own = {"interfaces": ["eth0"], "vips": [VIP], "program": str(program), "pins": str(bpffs), **sizes}
    config = node_yml(tmp_path, own)
    assert agent(networks, config, "detach") == {"detached": ["eth0"]}
    assert asked(networks)[1] == 0 and "tc_egress" not in filters(networks)
    # What is written meanwhile for another reason puts nothing on.
    assert edge.apply(by_envoy("udp", qos="P1")) == ""
    assert asked(networks)[1] == 0
    assert agent(networks, config, "attach") == {"attached": ["eth0"]}
    until(lambda: asked(networks)[1] == 34 << 2, "no mark after attach")


def addresses(networks: Networks) -> str:
    """Of the edge's card, and what else ip says of it."""
    words = ["ip", "-n", networks.name("edge"), "address", "show", "dev", "eth0"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_host_without_a_datapath_forgets_the_one_it_had(
    networks: Networks, any_edge: Callable[[], Edge], proxy: Backend, tmp_path: Path, bpffs: Path
) -> None:
    """Programs, filters, tree, vip; what others did there stays."""
    tc(networks, "qdisc add dev eth0 clsact")
    nothing = ("bpf", "bytecode", "1,6 0 0 0")
    networks.run("edge", "tc", "filter", "add", "dev", "eth0", "egress", "prio", "7", *nothing)
    networks.run("edge", "ip", "address", "add", "10.99.2.77/32", "dev", "eth0")
    kernels = roots(networks)
    edge = any_edge()
    assert edge.apply(by_envoy("udp", qos="P0", bandwidth={"egress": "10mbit"})) == ""
    assert asked(networks)[1] == 46 << 2
    edge.kill()

    there = ("forget", "--pins", str(bpffs))
    with pytest.raises(subprocess.CalledProcessError):
        agent(networks, node_yml(tmp_path, {"interfaces": ["eth0"], "pins": str(bpffs)}), *there)
    assert asked(networks)[1] == 46 << 2, "the inventory still asks for it"
    # Decommissioned, it still does: then the agent must have been stopped.
    kept = node_yml(tmp_path, {"interfaces": ["eth0"], "pins": str(bpffs)})
    networks.run("edge", "ip", "link", "set", "lo", "up")
    running = within(networks.name("edge"), lambda: socket.create_server(("", 8082)))
    with running, pytest.raises(subprocess.CalledProcessError):
        agent(networks, kept, "forget", "--stopped")
    assert asked(networks)[1] == 46 << 2, "an agent runs"
    assert agent(networks, kept, "forget", "--stopped") == {
        "forgotten": ["XDP on eth0", "tc on eth0", f"vip {VIP}"]
    }
    # Without their pins, programs go in the kernel's own time.
    until(lambda: "xdp" not in addresses(networks), "XDP stays on the card")
    until(lambda: asked(networks)[1] == 0, "the mark stays")
    listed = filters(networks)
    assert "tc_egress" not in listed and "bytecode" in listed
    assert roots(networks) == kernels and not bpffs.exists()
    assert VIP not in addresses(networks) and "10.99.2.77" in addresses(networks)
    assert agent(networks, kept, "forget", "--stopped") == {"forgotten": []}
    assert agent(networks, node_yml(tmp_path, None), *there) == {"forgotten": []}


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


def flood(networks: Networks) -> int:
    """How many of its 20 requests come beyond a burst of one, and one a second."""
    began = time.monotonic()
    for _ in range(20):
        with networks.client(("10.99.2.2", PORT)) as connection:
            assert greeting(connection) == "edge"
    return 19 - math.ceil(time.monotonic() - began)


def test_a_flood_of_requests_is_answered_by_cookies_for_listeners_alone(
    networks: Networks, edge: Edge, proxy: Backend
) -> None:
    if cookies_missing():
        pytest.skip(cookies_missing() or "")
    assert edge.apply(protection={"syn_cookies_above": 1}) == ""
    by_cookie = flood(networks)
    host = edge.ask("counters")["host"]
    assert host["send_cookie"] >= by_cookie and host["note_cookie_accepted"] == host["send_cookie"]
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            networks.client(("10.99.2.2", 7999))
    assert edge.ask("counters")["host"]["send_cookie"] == host["send_cookie"]
    web, names = over_https(PORT)
    assert edge.apply(web, protection={"syn_cookies_above": 1}, **names) == ""
    by_cookie = flood(networks)
    https = edge.ask("counters")["envoy/https"]
    assert https["send_cookie"] >= by_cookie and https["note_cookie_accepted"] == https["send_cookie"]
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
    # The mark comes after the classes.
    until(lambda: asked(networks)[1] == 46 << 2, "no mark on the new card")


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
