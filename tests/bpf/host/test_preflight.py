"""No card gets the datapath before packets went through it and came back: on veth, by a host's agent."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.bpf.host.networks import VIP, Backend, Edge, Networks, greeting, ip, service, until, within
from tests.bpf.host.shaped import agent, node_yml
from xds_agent.datapath import reflect
from xds_agent.datapath.link import Link
from xds_agent.node.datapath import preflight as preflight_module
from xds_agent.node.datapath.attachment import LINKS, AttachError
from xds_agent.node.datapath.network import Interface, Network
from xds_agent.node.datapath.preflight import Preflight, to_ask

pytestmark = pytest.mark.root


def card(networks: Networks, name: str = "eth0") -> Interface:
    """Of the edge."""

    def ask() -> Interface:
        with Network() as network:
            return network.interface(name)

    return within(networks.name("edge"), ask)


def far_end(networks: Networks, *words: str, to: str = "to-edge") -> None:
    subprocess.run(["ip", "-n", networks.router, "link", "set", "dev", to, *words], check=True)


def pass_again(networks: Networks, program: Path) -> None:
    far_end(networks, "xdp", "obj", str(program.with_name("xdp_pass.bpf.o")), "sec", "xdp")


def test_a_card_is_tried_before_its_first_program_and_not_after(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    edge = Edge(networks, program, tmp_path, bpffs, VIP)
    try:
        assert edge.start() == ""
        said = edge.ask("state")["preflight"]
        assert "10.99.2.1 answered" in said["eth0"] and "what it sends arrives" in said["eth0"]
        first = card(networks).xdp
        until((tmp_path / "datapath.confirmed").exists, "the program was never confirmed")
        edge.kill()
        assert card(networks).xdp == first != 0
        far_end(networks, "xdp", "off")
        assert edge.start() == "", "it was tried again"
        assert edge.ask("state")["preflight"] == said
    finally:
        edge.kill()


def test_what_xdp_sends_is_lost_where_the_other_end_of_a_veth_runs_nothing(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """Nobody else would tell: the driver counts it as sent."""
    far_end(networks, "xdp", "off")
    edge = Edge(networks, program, tmp_path, bpffs, VIP)
    try:
        words = edge.start()
        assert "eth0 (driver veth, MTU 1500) loses what native XDP sends: 10.99.2.1 answers" in words
        assert "xdp_pass.bpf.o" in words and "xdp_mode: skb" in words
        assert card(networks).xdp == 0
        edge.kill()
        pass_again(networks, program)
        assert edge.start() == "" and card(networks).xdp != 0
    finally:
        edge.kill()


def test_a_silent_gateway_proves_nothing_so_nothing_is_attached(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    far_end(networks, "down")
    edge = Edge(networks, program, tmp_path, bpffs, VIP)
    try:
        words = edge.start()
        assert "eth0 gets no program: its gateway 10.99.2.1 does not answer even without one" in words
        assert "ip route show dev eth0" in words and card(networks).xdp == 0
        edge.kill()
        far_end(networks, "up")
        assert edge.start() == ""
        assert "10.99.2.1 answered" in edge.ask("state")["preflight"]["eth0"]
    finally:
        edge.kill()


def test_by_hand_it_says_what_is_proved_and_leaves_nothing_on_the_card(
    networks: Networks, program: Path, tmp_path: Path
) -> None:
    config = node_yml(tmp_path, {"interfaces": ["eth0"], "program": str(program)})
    said = agent(networks, config, "preflight")
    assert "come in by native XDP, and what it sends arrives" in said["preflight"]["eth0"]
    assert card(networks).xdp == 0
    networks.run("edge", "ip", "link", "set", "dev", "eth0", "xdp", "obj",
                 str(program.with_name("xdp_pass.bpf.o")), "sec", "xdp")  # fmt: skip
    with pytest.raises(subprocess.CalledProcessError):
        agent(networks, config, "preflight")


def test_a_driver_without_native_xdp_is_named_with_the_remedy(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """A bridge: its gateway answers, and the kernel refuses the trial. In the slower mode it passes it."""
    for line in (
        "link add br0 type bridge", "link set br0 up", "address del 10.99.2.2/24 dev eth0",
        "link set eth0 master br0", "address add 10.99.2.2/24 dev br0",
        "route add default via 10.99.2.1 dev br0",
    ):  # fmt: skip
        networks.run("edge", "ip", *line.split())
    edge = Edge(networks, program, tmp_path, bpffs, VIP, interface="br0")
    try:
        assert "br0 (driver bridge, MTU 1500) takes no native XDP" in edge.start()
        edge.kill()
        edge = Edge(networks, program, tmp_path, bpffs, VIP, interface="br0", mode="skb")
        assert edge.start() == ""
        assert "come in by skb XDP" in edge.ask("state")["preflight"]["br0"]
    finally:
        edge.kill()


@pytest.mark.parametrize("network", ["10.99.2", "fd00:99:2:"])
def test_the_trial_takes_packets_of_nobody_and_ends_with_its_descriptor(
    networks: Networks, program: Path, backend: Callable[[str], Backend], network: str
) -> None:
    """By ARP and by neighbour discovery; whoever else sends meanwhile gets through."""
    if ":" in network:
        for where, number in ((networks.router, 1), (networks.name("edge"), 2)):
            device = "to-edge" if number == 1 else "eth0"
            address = [f"{network}:{number}/64", "dev", device, "nodad"]
            subprocess.run(["ip", "-n", where, "address", "add", *address], check=True)
    dot = ":" if ":" in network else "."
    here, gateway = ip_address(f"{network}{dot}2"), ip_address(f"{network}{dot}1")
    backend("edge")
    found, index = card(networks), networks.index("edge")
    question = reflect.Question(found.mac, here, gateway)

    def tried() -> tuple[reflect.Link, reflect.Heard]:
        mac = reflect.ask("eth0", question, within_s=10.0)
        assert mac is not None
        path = program.with_name(reflect.OBJECT)
        return reflect.try_out(path, "eth0", index, question, mac, native=True, within_s=10.0)

    link, heard = within(networks.name("edge"), tried)
    with closing(link):
        assert heard.receives and heard.sends
        assert card(networks).xdp == link.program_id()
        with networks.client(("10.99.2.2", 7000)) as connection:
            assert greeting(connection) == "edge"
    assert card(networks).xdp == 0


def test_a_trial_of_whatever_end_sends_less_than_a_switch_takes(
    networks: Networks, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamic ARP inspection disables a port at 15 packets of ARP in a second."""
    monkeypatch.setattr(reflect, "_SURE", 1000)
    preflight, found = Preflight(program.parent, native=True), card(networks)
    with closing(within(networks.router, lambda: reflect._opened("to-edge", 0x0806))) as wire:
        with pytest.raises(AttachError, match="of the 7 questions that XDP sent"):
            within(networks.name("edge"), lambda: preflight.card(found))
        wire.setblocking(False)
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(wire.recv(256))
    sent = [frame for frame in frames if frame[6:12] == found.mac]
    assert 7 < len(sent) < 15


def test_answers_are_told_from_all_else() -> None:
    """Another's answer, another question, and a frame that ends early are none."""
    mac, other = bytes(range(6)), bytes(range(6, 12))
    for one, two in (("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "fe80::1")):
        question = reflect.Question(mac, ip_address(one), ip_address(two))
        asked = question.to(other)
        value, mask = question.answer()
        assert len(asked) <= len(value) == len(mask) and len(question.to_all()) >= len(asked)
        assert question.is_answered_by(value) and question.is_answered_by(value + bytes(20))
        assert not question.is_answered_by(asked) and not question.is_answered_by(value[:-1])
        back = reflect.Question(mac, ip_address(two), ip_address(one)).answer()[0]
        assert not question.is_answered_by(back)


def test_a_card_that_failed_is_left_alone_for_a_while(
    networks: Networks, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To put a program on and off costs some drivers packets of everybody."""
    monkeypatch.setattr(preflight_module, "_AGAIN_S", 600.0)
    far_end(networks, "xdp", "off")
    found = card(networks)
    preflight = Preflight(program.parent, native=True)

    def refused() -> str:
        with pytest.raises(AttachError) as error:
            preflight.card(found)
        return str(error.value)

    words = within(networks.name("edge"), refused)
    pass_again(networks, program)
    assert within(networks.name("edge"), refused) == words


def test_a_card_without_neighbours_is_not_tried_and_said_to_be(networks: Networks, program: Path) -> None:
    networks.run("edge", "ip", "link", "add", "spare", "type", "veth", "peer", "name", "spare-peer")
    preflight = Preflight(program.parent, native=True)
    spare = card(networks, "spare")
    assert within(networks.name("edge"), lambda: preflight.card(spare)) is None
    assert preflight.words["spare"].startswith("not tried: no gateway")
    preflight = Preflight(program.parent, native=True, skip=True)
    assert preflight.card(card(networks)) is None and "xdp_preflight is false" in preflight.words["eth0"]


MAC = "02:00:00:00:00:01"


def neighbour(networks: Networks, address: str, state: str, mac: str = MAC) -> None:
    """The edge's, as somebody wrote it down."""
    networks.run("edge", "ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", state)


def tried(networks: Networks, program: Path) -> str:
    """What preflight says of the edge's card."""
    found, preflight = card(networks), Preflight(program.parent, native=True)

    def once() -> None:
        if (link := preflight.card(found)) is not None:
            link.close()

    within(networks.name("edge"), once)
    return preflight.words["eth0"]


def test_a_gateway_that_cannot_be_asked_says_nothing_about_the_card(
    networks: Networks, program: Path
) -> None:
    """This host has no address for it: a neighbour is asked in its place."""
    networks.run("edge", "ip", "link", "set", "dev", "eth0", "addrgenmode", "none")
    networks.run("edge", "ip", "-6", "address", "flush", "dev", "eth0")
    networks.run("edge", "ip", "route", "del", "default")
    networks.run("edge", "ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
    assert tried(networks, program).startswith("not tried")
    neighbour(networks, "10.99.2.1", "stale")
    assert tried(networks, program).startswith("10.99.2.1 answered")


def test_a_silent_gateway_whose_mac_was_written_down_is_no_obstacle(
    networks: Networks, program: Path
) -> None:
    neighbour(networks, "10.99.2.1", "permanent")
    assert tried(networks, program).startswith("10.99.2.1 answered")
    far_end(networks, "arp", "off")
    assert tried(networks, program).startswith("not tried")


def test_groups_and_absent_neighbours_do_not_take_the_place_of_one_that_answers(
    networks: Networks, program: Path
) -> None:
    networks.run("edge", "ip", "route", "del", "default")
    group, none = "01:00:5e:00:00:16", "00:00:00:00:00:00"
    absent = ((group, "noarp"), (group, "stale"), (none, "permanent"), (MAC, "stale"))
    for number, (mac, state) in enumerate(absent * 4, 40):
        neighbour(networks, f"10.99.2.{number}", state, mac)
    neighbour(networks, "10.99.2.1", "reachable")
    assert tried(networks, program).startswith("10.99.2.1 answered")


def test_a_gateway_is_asked_from_the_address_that_the_kernel_would_use(networks: Networks) -> None:
    for line in ("address add 10.99.9.2/24 dev eth0", "route replace default via 10.99.9.1"):
        networks.run("edge", "ip", *line.split())
    found = card(networks)
    asked, static, _ = within(networks.name("edge"), lambda: to_ask(found))
    assert [(str(one.source), str(one.neighbour)) for one in asked] == [("10.99.9.2", "10.99.9.1")]
    assert str(found.source(4)) == "10.99.2.2" and not static


def test_a_card_that_is_refused_costs_another_nothing_and_is_tried_again(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Callable[[str], Backend]
) -> None:
    """The one with a program goes on with the new agent, which takes edits and proves the program there."""
    backend("real")
    confirmed = tmp_path / "datapath.confirmed"
    edge = Edge(networks, program, tmp_path, bpffs, VIP)
    try:
        assert edge.start() == "" and edge.apply(service("tcp")) == ""
        until(confirmed.exists, "the first program was never confirmed")
        edge.kill()
        second_card(networks)
        # Written again once the program is proved on what carries it.
        confirmed.unlink()
        edge = Edge(networks, program, tmp_path, bpffs, VIP, interfaces=["eth0", "eth1"])
        words = edge.start()
        assert words.startswith("eth1 (driver veth, MTU 1500) loses what native XDP sends")
        assert card(networks).xdp != 0 == card(networks, "eth1").xdp
        assert edge.apply(service("tcp"), service("udp")) == ""
        with networks.client((VIP, 7100)) as connection:
            assert greeting(connection) == "real"
        until(confirmed.exists, "the program was never confirmed on the other card")
        assert confirmed.read_text().endswith(" native eth0")
        far_end(networks, "xdp", "obj", str(program.with_name("xdp_pass.bpf.o")), "sec", "xdp", to="second")
        found = edge.until(lambda found: not found["problem"])
        assert "10.99.12.1 answered" in found["preflight"]["eth1"] and card(networks, "eth1").xdp != 0
        assert confirmed.read_text().endswith(" native eth0 eth1")
    finally:
        edge.kill()


def test_a_card_that_was_refused_costs_another_nothing_at_the_next_boot(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """With a silent gateway and control away: the one that is proved has its program at once."""
    second_card(networks)
    confirmed = tmp_path / "datapath.confirmed"
    edge = Edge(networks, program, tmp_path, bpffs, VIP, interfaces=["eth0", "eth1"])
    try:
        assert edge.start().startswith("eth1 (driver veth, MTU 1500) loses what native XDP sends")
        until(confirmed.exists, "the program was never confirmed on the card that took it")
        edge.kill()
        shutil.rmtree(bpffs)
        far_end(networks, "arp", "off")
        (tmp_path / "control").write_text("away")
        assert "the program was not proved on eth1 yet" in edge.start()
        first = card(networks).xdp
        found = edge.until(lambda found: "eth1 gets the program once control answers" in found["problem"])
        assert "eth0" not in found["problem"] and card(networks).xdp == first != 0
    finally:
        edge.kill()


def test_a_card_that_comes_back_and_shuts_control_out_loses_the_program(
    networks: Networks, edge: Edge, tmp_path: Path
) -> None:
    """Its gateway answers, so preflight lets it pass. A restart of the agent changes nothing about that."""
    until((tmp_path / "datapath.confirmed").exists, "the program was never confirmed")
    (tmp_path / "control").write_text("guilty")
    with edge.stopped():
        ip("-n", networks.name("edge"), "link", "del", "eth0")
        networks.join("edge")
    found = edge.until(lambda found: "eth0 lost the program again" in found["problem"])
    assert "control did not answer over a new connection" in found["problem"]
    assert card(networks).xdp == 0
    edge.kill()
    assert edge.start() == ""
    edge.until(lambda found: "no program runs now" in found["problem"])
    assert card(networks).xdp == 0, "what shuts this card out was gone back to"


def second_card(networks: Networks) -> None:
    """Of the edge, whose other end runs no program; its neighbour is known."""
    edge = networks.name("edge")
    for line in (
        f"link add eth1 netns {edge} type veth peer name second netns {networks.router}",
        f"-n {networks.router} address add 10.99.12.1/24 dev second",
        f"-n {networks.router} link set second up",
        f"-n {edge} address add 10.99.12.2/24 dev eth1",
        f"-n {edge} link set eth1 up",
        f"-n {edge} neigh replace 10.99.12.1 lladdr {MAC} dev eth1 nud stale",
    ):
        ip(*line.split())


def test_a_card_that_comes_back_is_tried_like_any_other(
    networks: Networks, program: Path, edge: Edge, tmp_path: Path
) -> None:
    until((tmp_path / "datapath.confirmed").exists, "the program was never confirmed")
    with edge.stopped():
        ip("-n", networks.name("edge"), "link", "del", "eth0")
        networks.join("edge")
        far_end(networks, "xdp", "off")
    edge.until(lambda found: "eth0 (driver veth, MTU 1500) loses what native XDP sends" in found["problem"])
    assert card(networks).xdp == 0
    pass_again(networks, program)
    edge.until(lambda found: not found["problem"])
    assert card(networks).xdp != 0


def test_a_program_that_is_lost_comes_back_on_its_card_though_the_gateway_is_silent(
    networks: Networks, edge: Edge, bpffs: Path, tmp_path: Path
) -> None:
    """A flood may be why it is silent, and the program is what holds against it."""
    until((tmp_path / "datapath.confirmed").exists, "the program was never confirmed")
    edge.until(lambda found: not found["problem"])
    ran = card(networks).xdp
    far_end(networks, "arp", "off")
    link = Link.open(bpffs / LINKS / "eth0")
    assert link is not None
    link.detach()
    link.close()
    until(lambda: card(networks).xdp == ran != 0, "the card stays without the program")
    assert not edge.ask("state")["problem"]
