"""Services that Envoy serves, shaped by tc: what is asked for, what the card has, what a client gets."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bpf.host.networks import PATIENCE_S, ROOT, Networks, within

PORT = 7000  # of Backend, which stands for Envoy here


def by_envoy(protocol: str, **more: Any) -> dict[str, Any]:
    endpoints = [{"address": "10.99.3.2", "port": 7000}]
    listen = {"address": "edge", "port": PORT}
    one = {"name": f"shaped-{protocol}", "protocol": protocol, "tier": "l7", "listen": listen}
    return {**one, "endpoints": endpoints, **more}


def over_https(port: int = 443) -> tuple[dict[str, Any], dict[str, Any]]:
    """A service that Envoy serves there by its domain, and what else of the edge that takes."""
    domains = [{"name": "a.example.com", "certificate": "a"}]
    service = {
        "name": "web",
        "domains": ["a.example.com"],
        "endpoints": [{"address": "10.99.3.2", "port": 7000}],
    }
    return service, {"domains": domains, "certificates": [{"name": "a"}], "ports": {"https": port}}


def tc(networks: Networks, *lines: str) -> str:
    """What the last of these commands prints on the edge."""
    printed = ""
    for line in lines:
        command = ["ip", "netns", "exec", networks.name("edge"), "tc", *line.split()]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed


def shown(networks: Networks) -> str:
    return tc(networks, "-s class show dev eth0")


def roots(networks: Networks) -> str:
    """The disciplines of the edge's egress."""
    listed = tc(networks, "qdisc show dev eth0").replace("qdisc ", "")
    return "; ".join(line for line in listed.splitlines() if "clsact" not in line)


def classes(networks: Networks) -> dict[str, dict[str, str]]:
    """Of HTB, by handle; each word that follows another, as tc says them."""
    found = {}
    for block in shown(networks).split("class htb ")[1:]:
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


def filters(networks: Networks) -> str:
    """What clsact runs on both sides of the edge's card."""
    sides = [tc(networks, f"filter show dev eth0 {side}") for side in ("ingress", "egress")]
    return "".join(sides)


def agent(networks: Networks, config: Path, *words: str) -> Any:
    """What `xds-agent datapath` says on the edge."""
    there = ("nsenter", f"--net=/run/netns/{networks.name('edge')}", sys.executable, "-m", "xds_agent")
    command = [*there, "datapath", *words, "--config", str(config), "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def node_yml(folder: Path, datapath: dict[str, Any] | None) -> Path:
    node = {
        "name": "edge1", "control": ["10.99.2.1:18000"], "control_names": ["control1"],
        "tls": {name: str(folder / name) for name in ("certificate", "key", "ca")},
        "runtime_dir": str(folder), "state_dir": str(folder), "envoy": {"present": False},
        "datapath": datapath,
    }  # fmt: skip
    (folder / "node.yml").write_text(json.dumps(node))
    return folder / "node.yml"
