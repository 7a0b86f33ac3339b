"""What the lab's virtual network cards need for XDP, after every start of a host.

A frame that the near end of a veth pair sends by XDP_TX arrives only if the far end carries a program too:
every peer of an edge gets one that lets everything pass. And a sender must sum its packets itself, since what
XDP forwards passes nobody who would.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

from lab import clients
from lab.commands import attempt, podman_json, run
from lab.hosts import states
from lab.place import ROOT, HostSpec, Place

PASS = ROOT / "bpf" / "build" / "xdp_pass.bpf.o"


def ensure(place: Place, say: Callable[[str], None]) -> None:
    """Peers of the edges carry the pass program, senders sum, the clients' network is there."""
    edges = place.in_group("l4")
    if not edges:
        return
    _build()
    running = {name for name, state in states(place).items() if state == "running"}
    done = 0
    for host in place.hosts:
        if host.container not in running:
            continue
        pid = _pid(host)
        run(["nsenter", "--target", pid, "--net", "ethtool", "-K", "eth0", "tx", "off"])
        if host in edges:
            done += _pass_on_peer(pid)
    if done:
        say(f"gave {done} peers of the edges' network cards a program that lets everything pass")
    clients.ensure(place)


def let_pass(bridges: Collection[str]) -> None:
    """Every port of these bridges carries the pass program, whoever plugged a host in."""
    links = json.loads(run(["ip", "-j", "link", "show"]))
    bare = [link["ifname"] for link in links if link.get("master") in bridges and not link.get("xdp")]
    if bare:
        _build()
    for name in bare:
        # A host may be gone meanwhile, and its port with it.
        if attempt(_pass(name)).returncode and Path("/sys/class/net", name).exists():
            run(_pass(name))


def _build() -> None:
    run(
        ["make", "-C", ROOT / "bpf", "build/xdp_pass.bpf.o"],
        remedy="script/lab up installs what building needs: make, clang, libbpf-dev",
    )


def _pass(interface: str) -> list[str | Path]:
    return ["ip", "link", "set", "dev", interface, "xdp", "obj", PASS, "sec", "xdp"]


def _pid(host: HostSpec) -> str:
    [found] = podman_json("inspect", "--format", "json", host.container)
    return str(found["State"]["Pid"])


def _pass_on_peer(pid: str) -> bool:
    """True if the peer on this machine had no program yet."""
    inside = json.loads(run(["nsenter", "--target", pid, "--net", "ip", "-j", "link", "show", "eth0"]))
    links = json.loads(run(["ip", "-j", "link", "show"]))
    [peer] = [link for link in links if link["ifindex"] == inside[0]["link_index"]]
    if peer.get("xdp"):
        return False
    run(_pass(peer["ifname"]))
    return True


def remove(place: Place) -> None:
    """The clients' network; peers go with their hosts."""
    clients.remove(place)
