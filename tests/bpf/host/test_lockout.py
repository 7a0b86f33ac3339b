"""Nobody is shut out for good: what costs control its way is taken back, what is taken off is noticed, and
health acts meanwhile. On veth, as in test_node_agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bpf.host.networks import (
    HEALTH,
    OTHER_LAYOUT_OF_REALS,
    PATIENCE_S,
    ROOT,
    VIP,
    Backend,
    Edge,
    Networks,
    greeting,
    service,
    until,
    within,
)
from tests.bpf.support.packets import Packet
from tests.bpf.test_loading import changed
from xds_agent.datapath.link import Link
from xds_agent.node.datapath.attached import CONFIRMED
from xds_agent.node.datapath.attachment import LINKS
from xds_agent.node.datapath.lockout import Baseline, Lockout
from xds_agent.node.datapath.network import Network

pytestmark = pytest.mark.root
Backends = Callable[[str], Backend]


def attached(networks: Networks) -> int:
    """Number of the XDP program on the edge's card."""

    def ask() -> int:
        with Network() as network:
            return network.interface("eth0").xdp

    return within(networks.name("edge"), ask)


def lose_program(bpffs: Path) -> None:
    """As somebody takes it off who does not know the agent."""
    link = Link.open(bpffs / LINKS / "eth0")
    assert link is not None
    link.detach()
    link.close()


async def no_control() -> str:
    return ""


def test_a_change_that_costs_control_its_way_is_taken_back(
    networks: Networks, edge: Edge, backend: Backends
) -> None:
    backend("real")
    assert edge.apply(service("tcp")) == ""
    edge.ask("control", "lost")
    denied = service("tcp", listen={"address": "vip", "port": 7200})
    words = edge.apply(denied, protection={"deny": ["10.99.1.0/24"]})
    assert "after the change control did not answer over a new connection within 2 s" in words
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    found = edge.ask("state")
    assert found["deny"] == 0 and found["services"][0]["fronts"][0]["port"] == 7100


def test_health_acts_while_a_change_waits_to_be_confirmed(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Backends
) -> None:
    first, _ = backend("real"), backend("other")
    wanted = service("tcp", "real", "other", health=HEALTH, steering={"order": ["real", "other"]})
    edge = Edge(networks, program, tmp_path, bpffs, VIP, confirm_s=300.0)
    try:
        assert edge.start() == ""
        assert edge.apply(wanted) == ""
        edge.until(lambda found: found["services"][0]["served"])
        edge.ask("control", "lost")
        answers: list[str] = []
        changing = threading.Thread(target=lambda: answers.append(edge.apply(wanted, service("udp"))))
        changing.start()
        control = tmp_path / "control"
        until(lambda: control.read_text() == "away", "the change was never made")
        first.stop()

        def leads_elsewhere() -> bool:
            try:
                with networks.client((VIP, 7100), timeout_s=1.0) as connection:
                    return greeting(connection) == "other"
            except OSError:
                return False

        until(leads_elsewhere, "nobody acted on the dead backend")
        assert changing.is_alive() and not answers
        control.write_text("back")
        changing.join(PATIENCE_S)
        assert answers == [""]
    finally:
        edge.kill()


def test_a_first_program_that_shuts_control_out_is_taken_off(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    edge = Edge(networks, program, tmp_path, bpffs, VIP, confirm_s=1.0)
    (tmp_path / "control").write_text("guilty")
    try:
        assert edge.start() == ""
        found = edge.until(lambda found: "no program runs now" in found["problem"])
        assert "the new program was taken back: after the change control did not answer" in found["problem"]
        assert attached(networks) == 0
        assert "does not run" in edge.apply(service("tcp"))
    finally:
        edge.kill()


def test_a_new_program_that_shuts_control_out_gives_way_to_the_one_before(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Backends
) -> None:
    """Its maps stay, so that the agent goes on serving the program that runs; where that is lost, it is what
    comes again. This new one shares all of its tables."""
    backend("real")
    edge = Edge(networks, program, tmp_path, bpffs, VIP, confirm_s=1.0)
    newer = tmp_path / "newer" / program.name
    shutil.copytree(program.parent, newer.parent)
    newer.write_bytes(program.read_bytes() + b"\0")
    try:
        assert edge.start() == "" and edge.apply(service("tcp")) == ""
        until((tmp_path / "datapath.confirmed").exists, "the first program was never confirmed")
        edge.kill()
        edge = Edge(networks, newer, tmp_path, bpffs, VIP, confirm_s=1.0)
        (tmp_path / "control").write_text("guilty")
        assert edge.start() == ""
        found = edge.until(lambda found: "the program before runs on" in found["problem"])
        assert found["program"] == str(tmp_path / "datapath.confirmed.objects" / newer.name)
        (tmp_path / "control").write_text("back")
        before = attached(networks)
        lose_program(bpffs)
        until(lambda: attached(networks) == before != 0, "the program before did not come again")
        assert edge.apply(service("tcp"), service("udp")) == ""
        with networks.client((VIP, 7100)) as connection:
            assert greeting(connection) == "real"
    finally:
        edge.kill()


def test_after_a_take_back_edits_and_health_reach_the_program_that_runs(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Backends
) -> None:
    """Also where the new one had tables of another layout and size: the agent goes on with those of the one
    before, whose file is no longer there, and so do its connections."""
    first, _ = backend("real"), backend("other")
    released = tmp_path / "released" / program.name
    shutil.copytree(program.parent, released.parent)
    edge = Edge(networks, released, tmp_path, bpffs, VIP, confirm_s=1.0)
    wanted = service("tcp", "real", "other", health=HEALTH, steering={"order": ["real", "other"]})
    control = tmp_path / "control"
    try:
        assert edge.start() == "" and edge.apply(wanted) == ""
        edge.until(lambda found: found["services"][0]["served"])
        until((tmp_path / "datapath.confirmed").exists, "the first program was never confirmed")
        with networks.client((VIP, 7100)) as connection:
            assert greeting(connection) == "real"
            edge.kill()
            shutil.rmtree(released.parent)
            newer = changed(program, tmp_path / "newer", "types.h", *OTHER_LAYOUT_OF_REALS)
            edge = Edge(networks, newer, tmp_path, bpffs, VIP, confirm_s=1.0, services=128)
            control.write_text("guilty")
            assert edge.start() == ""
            found = edge.until(lambda found: "the program before runs on" in found["problem"])
            assert found["problem"].endswith("runs on") and found["sizes"]["services"] == 64
            control.write_text("back")
            assert edge.apply(wanted, service("udp")) == ""
            first.stop()
            edge.until(lambda found: found["services"][0]["reals"][0]["state"] == "down")
            with networks.client((VIP, 7100)) as another:
                assert greeting(another) == "other"
            connection.sendall(b"through all of it")
            assert connection.recv(64) == b"through all of it"
    finally:
        edge.kill()


def test_without_control_the_first_program_stays_and_is_proved_later(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """Each host stands alone: that control is away is no program's fault."""
    # It is off for so long once a minute: long enough to be seen.
    edge = Edge(networks, program, tmp_path, bpffs, VIP, confirm_s=5.0)
    (tmp_path / "control").write_text("away")
    record = tmp_path / "datapath.confirmed"
    try:
        assert edge.start() == ""
        first = attached(networks)
        until(lambda: attached(networks) != first, "it was never tried without the program")
        until(lambda: attached(networks) != 0, "the program was not put on again")
        assert not record.exists()
        (tmp_path / "control").write_text("back")
        until(record.exists, "control came, and the program was not confirmed")
        assert edge.ask("state")["problem"] == "" and attached(networks)
    finally:
        edge.kill()


def test_a_program_that_is_taken_off_is_put_on_again(networks: Networks, edge: Edge, bpffs: Path) -> None:
    """Whoever took it off did not use `xds-agent datapath detach`."""
    edge.until(lambda found: not found["problem"])
    lose_program(bpffs)
    until(lambda: attached(networks) != 0, "it was not attached again")
    assert edge.ask("state")["problem"] == ""


def test_detached_by_hand_is_said_until_it_is_attached_by_hand(
    networks: Networks, program: Path, edge: Edge, backend: Backends, bpffs: Path, tmp_path: Path
) -> None:
    """By the commands a person has, on a host without Envoy."""
    backend("real")
    assert edge.apply(service("tcp")) == ""
    node = {
        "name": "edge1", "control": ["10.99.2.1:18000"], "control_names": ["control1"],
        "tls": {name: str(tmp_path / name) for name in ("certificate", "key", "ca")},
        "runtime_dir": str(tmp_path), "state_dir": str(tmp_path), "envoy": {"present": False},
        "datapath": {
            "interfaces": ["eth0"], "vips": [VIP], "program": str(program), "pins": str(bpffs),
            "services": 64, "reals": 64, "flows": 4096, "limit_blocks": 1024,
        },
    }  # fmt: skip
    (tmp_path / "node.yml").write_text(yaml.safe_dump(node))

    def command(*words: str, group: str = "datapath") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{networks.name('edge')}", sys.executable, "-m", "xds_agent",
             *([group] if group else []), *words, "--config", str(tmp_path / "node.yml"), "--json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def told() -> Any:
        return json.loads(command("status").stdout)

    assert json.loads(command("detach").stdout) == {"detached": ["eth0"]}
    edge.until(lambda found: "taken off eth0 by hand" in found["problem"])
    assert attached(networks) == 0
    assert command("status").returncode == 1 and "xds-agent datapath attach" in told()["problem"]
    done = command("attach")
    assert done.returncode == 0, done.stderr
    edge.until(lambda found: found["problem"] == "")
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
    assert command("status").returncode == 0
    live = {"document": {"edge": {}, "origins": {"edge.services[echo-tcp].forward": "edge/echo.yml:9:3"}}}
    (tmp_path / "live.json").write_text(json.dumps(live))
    frame = Packet(source="10.99.1.2", destination=VIP, dport=7100, flags=2, payload=b"").bytes()
    said = command("explain-packet", "--hex", frame.hex(), "--site", str(tmp_path / "live.json"), group="")
    [explained] = json.loads(said.stdout)
    assert (explained["verdict"], explained["reason"]) == ("sent on by XDP", "send_nat"), said.stderr
    [forward] = [one for one in explained["stages"] if one["stage"] == "forward"]
    assert (forward["path"], forward["origin"]) == ("services[echo-tcp].forward", "edge/echo.yml:9:3")


def test_new_addresses_and_another_mtu_of_the_host_are_followed(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Backends
) -> None:
    """A lease that changed needs no edit: services answer on the new address, and NAT sends from it."""
    backend("real")
    edge = Edge(networks, program, tmp_path, bpffs)
    try:
        assert edge.start() == ""
        tunnelled = service("udp", forward="gue", listen={"address": "vip", "port": 7000})
        assert edge.apply(service("tcp"), tunnelled) == ""
        assert 1500 - 28 in edge.ask("mtu")
        networks.run("edge", "ip", "addr", "add", "10.99.2.77/24", "dev", "eth0")
        networks.run("edge", "ip", "addr", "del", "10.99.2.2/24", "dev", "eth0")
        networks.run("edge", "ip", "addr", "replace", "10.99.2.77/24", "dev", "eth0")
        networks.run("edge", "ip", "route", "replace", "default", "via", "10.99.2.1")
        networks.run("edge", "ip", "link", "set", "eth0", "mtu", "1400")
        edge.until(lambda found: found["services"][0]["fronts"][0]["address"] == "10.99.2.77")
        until(lambda: 1400 - 28 in edge.ask("mtu"), "the maps kept the old MTU")
        with networks.client(("10.99.2.77", 7100)) as connection:
            assert greeting(connection) == "real"
    finally:
        edge.kill()


def test_skb_mode_serves_too_when_it_is_asked_for(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Backends
) -> None:
    backend("real")
    edge = Edge(networks, program, tmp_path, bpffs, VIP, mode="skb")
    try:
        assert edge.start() == "" and edge.apply(service("tcp")) == ""
        shown = subprocess.run(
            ["ip", "-n", networks.name("edge"), "-d", "link", "show", "eth0"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "xdpgeneric" in shown
        with networks.client((VIP, 7100)) as connection:
            assert greeting(connection) == "real"
    finally:
        edge.kill()


def test_a_reboot_rebuilds_everything_from_disk_without_control(
    networks: Networks, program: Path, edge: Edge, backend: Backends, bpffs: Path, tmp_path: Path
) -> None:
    """What lay in /run is gone, the card is a new one, control is away and the network is not up yet: the
    program stands first, serves as soon as the network does, and is not put on trial again."""
    backend("real")
    assert edge.apply(service("tcp")) == ""
    until((tmp_path / "datapath.confirmed").exists, "the program was never confirmed")
    edge.kill()
    shutil.rmtree(bpffs)
    for path in tmp_path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("held.json", "datapath.confirmed"):
            path.unlink()
    subprocess.run(["ip", "-n", networks.name("edge"), "link", "del", "eth0"], check=True)
    networks.plug("edge")
    (tmp_path / "control").write_text("away")
    assert edge.start() == ""
    first = attached(networks)
    networks.come_up("edge")

    def answers() -> bool:
        with contextlib.suppress(OSError), networks.client((VIP, 7100), timeout_s=1.0) as connection:
            return greeting(connection) == "real"
        return False

    until(answers, "what the network's coming up changed was not followed")
    assert attached(networks) == first != 0
    assert edge.ask("state")["problem"] == ""
    assert (bpffs / CONFIRMED).exists(), "the next program would have none to go back to"


def test_a_card_that_flaps_costs_the_others_nothing(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """Each comes back by itself, while another is still away; what is pinned of the others stays pinned."""
    here = networks.name("edge")

    def plug(name: str) -> None:
        made = [
            "link",
            "add",
            name,
            "netns",
            here,
            "type",
            "veth",
            "peer",
            "name",
            f"far-{name}",
            "netns",
            here,
        ]
        subprocess.run(["ip", *made], check=True)
        for end in (name, f"far-{name}"):
            subprocess.run(["ip", "-n", here, "link", "set", end, "up"], check=True)

    def unplug(name: str) -> None:
        subprocess.run(["ip", "-n", here, "link", "del", name], check=True)

    def program_on(name: str) -> int:
        def ask() -> int:
            with Network() as network:
                return network.interface(name).xdp

        return within(here, ask)

    for name in ("eth1", "eth2"):
        plug(name)
    edge = Edge(networks, program, tmp_path, bpffs, VIP, interfaces=["eth0", "eth1", "eth2"])
    try:
        assert edge.start() == ""
        first = attached(networks)
        unplug("eth1")
        unplug("eth2")
        edge.until(lambda found: "eth1 is gone" in found["problem"] and "eth2 is gone" in found["problem"])
        plug("eth1")
        until(lambda: program_on("eth1") != 0, "the card that came back has no program while another is away")
        # It is pinned once everybody answers with it.
        edge.until(lambda found: "eth1" not in found["problem"])
        assert sorted(path.name for path in (bpffs / LINKS).iterdir()) == ["eth0", "eth1", "eth2"]
        edge.kill()
        assert attached(networks) == first and program_on("eth1") == first, "a dead agent costs programs"
    finally:
        edge.kill()


def test_a_gateway_whose_mac_was_written_down_keeps_it(networks: Networks) -> None:
    """Asked by the kernel it would be lost where it answers nobody, and the host with it."""
    where = ["10.99.2.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent"]
    networks.run("edge", "ip", "neigh", "replace", *where)
    subprocess.run(["ip", "-n", networks.router, "link", "set", "dev", "to-edge", "arp", "off"], check=True)
    index, gateway = networks.index("edge"), ip_address("10.99.2.1")

    async def answering() -> Baseline:
        return await Lockout(no_control, patience_s=2.0).gateways([index])

    found = within(networks.name("edge"), lambda: asyncio.run(answering()))
    assert found.gateways == ((gateway, index),)
    shown = subprocess.run(
        ["ip", "-n", networks.name("edge"), "neigh", "show", "10.99.2.1"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "PERMANENT" in shown
