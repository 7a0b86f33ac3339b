"""What role decap puts on a backend, and a service of `forward: gue` through it: whole connections."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.host.networks import (
    ROOT,
    VIP,
    Backend,
    Edge,
    Networks,
    greeting,
    service,
)

pytestmark = pytest.mark.root
PROGRAM = ROOT / "roles" / "decap" / "files" / "decap.py"
OTHER_VIP = "198.51.100.77"


@pytest.fixture
def decap(networks: Networks, program: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs the role's program on the backend; returns what it says on stderr."""
    if shutil.which("bpftool") is None:
        pytest.skip("needs the Debian package bpftool")
    pins, settings = tmp_path / "decap", tmp_path / "decap.json"

    def run(*words: str, **more: Any) -> str:
        said = {
            "interfaces": ["eth0"], "addresses": [VIP], "edges": ["10.99.2.2"], "mode": "native",
            "program": str(program.parent / "decap.bpf.o"), "pins": str(pins),
            "state": str(tmp_path / "run" / "decap.state"), **more,
        }  # fmt: skip
        settings.write_text(json.dumps(said))
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{networks.name('real')}", sys.executable, str(PROGRAM), *words,
             str(settings)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert bool(done.stderr) == bool(done.returncode)
        return done.stderr

    yield run
    run("--off")


def on_backend(networks: Networks, *command: str) -> str:
    """What it prints there."""
    there = ("nsenter", f"--net=/run/netns/{networks.name('real')}")
    return subprocess.run([*there, *command], capture_output=True, text=True, check=True).stdout


def program_mode(networks: Networks, interface: str = "eth0") -> int:
    """XDP_ATTACHED_*: 0 none, 1 the driver's, 2 generic."""
    [link] = json.loads(on_backend(networks, "ip", "-j", "-d", "link", "show", "dev", interface))
    return int(link.get("xdp", {}).get("mode", 0))


def loopback(networks: Networks) -> set[str]:
    [link] = json.loads(on_backend(networks, "ip", "-j", "address", "show", "dev", "lo"))
    return {one["local"] for one in link["addr_info"]} - {"127.0.0.1", "::1"}


def arp(networks: Networks) -> list[str]:
    """arp_ignore and arp_announce."""
    of_all = "/proc/sys/net/ipv4/conf/all"
    return on_backend(networks, "cat", f"{of_all}/arp_ignore", f"{of_all}/arp_announce").split()


def by_gue() -> dict[str, Any]:
    listen = {"address": "vip", "port": 7000}
    return service("tcp", "real", forward="gue", listen=listen)


def test_connections_by_gue_reach_a_backend_that_answers_by_itself(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], decap: Callable[..., str]
) -> None:
    """The client's own address reaches the backend; running it again exchanges the program in place."""
    backend("real")
    assert decap() == ""
    assert edge.apply(by_gue()) == ""
    with networks.client((VIP, 7000)) as connection:
        assert greeting(connection) == "real"
        assert decap() == ""
        connection.sendall(b"through the next program")
        assert connection.recv(64) == b"through the next program"
    assert edge.ask("counters")["echo-tcp"]["send_gue"] > 3


def test_only_edges_may_encapsulate(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], decap: Callable[..., str]
) -> None:
    backend("real")
    assert decap(edges=["10.99.9.0/24", "2001:db8::/64"]) == ""
    assert edge.apply(by_gue()) == ""
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7000), timeout_s=1.0)


def test_another_program_is_named_and_left_alone(
    networks: Networks, program: Path, decap: Callable[..., str]
) -> None:
    other = str(program.parent / "xdp_pass.bpf.o")
    place = ("-n", networks.name("real"), "link", "set", "dev", "eth0")
    subprocess.run(["ip", *place, "xdpdrv", "obj", other, "sec", "xdp"], check=True)
    words = decap()
    assert "eth0 carries another XDP program already (xdp_pass)" in words
    subprocess.run(["ip", *place, "xdpdrv", "off"], check=True)
    assert decap() == ""


def test_what_is_taken_out_of_the_lists_is_taken_off_the_host(
    networks: Networks, decap: Callable[..., str]
) -> None:
    """Interfaces and addresses; what somebody else has set stays, also at the end."""
    networks.run("real", "ip", "link", "add", "card", "type", "veth", "peer", "name", "card-peer")
    networks.run("real", "ip", "address", "add", f"{OTHER_VIP}/32", "dev", "lo")
    assert decap(interfaces=["eth0", "card"], addresses=[VIP, OTHER_VIP]) == ""
    assert (program_mode(networks), program_mode(networks, "card")) == (1, 1)
    assert loopback(networks) == {VIP, OTHER_VIP}
    assert decap(interfaces=["card"], addresses=[]) == ""
    assert (program_mode(networks), program_mode(networks, "card")) == (0, 1)
    assert loopback(networks) == {OTHER_VIP}
    networks.run("real", "ip", "link", "del", "card")
    assert decap(addresses=[VIP]) == "", "an interface that is gone is nobody's business"
    assert decap("--off", addresses=[]) == ""
    assert program_mode(networks) == 0
    assert loopback(networks) == {OTHER_VIP}


def test_neighbours_are_answered_as_before_once_the_addresses_are_gone(
    networks: Networks, decap: Callable[..., str]
) -> None:
    networks.run("real", "sysctl", "-qw", "net.ipv4.conf.all.arp_announce=1")
    assert decap() == "" and decap() == ""
    assert arp(networks) == ["1", "2"]
    assert decap(addresses=[]) == ""
    assert arp(networks) == ["0", "1"]
    assert decap() == ""
    assert decap("--off") == ""
    assert arp(networks) == ["0", "1"]


def test_no_address_is_on_the_loopback_before_the_kernel_keeps_it_to_itself(
    networks: Networks, decap: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "arp-at-the-address"
    command = tmp_path / "bin" / "ip"
    command.parent.mkdir()
    command.write_text(
        "#!/bin/sh\n"
        f'case "$*" in "address replace"*) cat /proc/sys/net/ipv4/conf/all/arp_ignore > {seen};; esac\n'
        f'exec {shutil.which("ip")} "$@"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    assert decap() == ""
    assert seen.read_text().strip() == "1"


def test_the_mode_can_be_changed(networks: Networks, decap: Callable[..., str], tmp_path: Path) -> None:
    """Whatever else has put a folder where programs are pinned, as `ip` does."""
    assert decap() == ""
    (tmp_path / "decap" / "ip").mkdir()
    for mode, number in (("native", 1), ("skb", 2), ("native", 1), ("skb", 2)):
        assert decap(mode=mode) == ""
        assert program_mode(networks) == number
    # Said wrongly, since the edit that takes decap off may be the one that changes the mode.
    assert decap("--off", mode="native") == ""
    assert program_mode(networks) == 0


def test_an_edge_that_is_no_network_is_named_before_anything_is_loaded(
    networks: Networks, decap: Callable[..., str], tmp_path: Path
) -> None:
    words = decap(edges=["10.99.2.2", "edge-aws1"])
    assert "edges: 'edge-aws1' does not appear to be an IPv4 or IPv6 network" in words
    assert program_mode(networks) == 0 and not list((tmp_path / "decap").glob("*"))
