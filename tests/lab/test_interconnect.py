"""Private networks of clouds, joined by tunnels: role `interconnect` where nothing else passes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import Checkout

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(900)]

PORT = 9191
# What fits an Ethernet frame less the outer headers of IPv4, UDP and WireGuard.
MTU = 1500 - 60
SIZE = 2_000_000
# Says to whoever connects whom it sees, and sends so much that full packets are under way.
SERVER = f"""
import socket
server = socket.create_server(("", {PORT}), backlog=16)
while True:
    client, address = server.accept()
    client.sendall(address[0].encode() + b"\\n" + bytes({SIZE}))
    client.close()
"""
CLIENT = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {PORT}), 5) as client:
    said = b""
    while more := client.recv(65536):
        said += more
seen, _, rest = said.partition(b"\\n")
print(seen.decode(), len(rest))
"""
# Sends packets that must not be split until the way's own MTU is known.
FITTING = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, 10, 2)
sender.connect((sys.argv[1], 9))
for _ in range(100):
    try:
        sender.send(bytes(sender.getsockopt(socket.IPPROTO_IP, 14) - 28))
    except OSError:
        pass
    time.sleep(0.05)
print(sender.getsockopt(socket.IPPROTO_IP, 14))
"""


# A gateway and a host that is none, which know of no mesh any more.
REMOVAL = """
- hosts: edge-gcp1:backend-gcp1
  gather_facts: false
  roles: [marchproxy.edge.interconnect]
"""


def eventually(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


def changes(checkout: Checkout) -> int:
    """Tasks that changed something in a run of the role on every host."""
    done = checkout.playbook("site.yml", "--tags", "interconnect")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))


def test_clouds_reach_each_other_by_tunnels_and_survive_a_dead_one(
    bare_checkout: Checkout, tmp_path: Path
) -> None:
    checkout = bare_checkout
    said = checkout.must_json("script/lab", "up", "--bare", "--interconnect", "--json")
    address = {host["name"]: host["address"] for host in said["hosts"]}
    container = {host["name"]: host["container"] for host in said["hosts"]}
    servers = [
        subprocess.Popen(["podman", "exec", container[name], "python3", "-c", SERVER])
        for name in ("backend-aws1", "backend-azure1")
    ]

    def fetched(source: str, target: str) -> str:
        command = ("script/lab", "ssh", source, "python3", "-c", CLIENT, address[target])
        return checkout.run(*command).stdout.strip()

    def reached(source: str, target: str) -> bool:
        return fetched(source, target) == f"{address[source]} {SIZE}"

    try:
        eventually(lambda: reached("backend-aws2", "backend-aws1"), "the servers are up")
        assert fetched("backend-gcp1", "backend-aws1") == "", "without a mesh nothing passes between clouds"

        assert changes(checkout) > 0
        # The far end sees the private address, and whole packets pass, between hosts that know of no tunnel.
        for source, target in (("backend-gcp1", "backend-azure1"), ("egress1", "backend-azure1")):
            eventually(lambda s=source, t=target: reached(s, t), f"{source} reaches {target}")  # type: ignore[misc]
        mtu = checkout.must(
            "script/lab", "ssh", "backend-gcp1", "python3", "-c", FITTING, address["backend-aws1"]
        )
        assert int(mtu) == MTU

        keys = [
            checkout.must(
                "script/lab", "ssh", edge, "stat", "-c", "%a %U", "/etc/marchproxy/interconnect.key"
            )
            for edge in ("edge-aws1", "edge-gcp1")
        ]
        assert [key.strip() for key in keys] == ["400 root"] * 2
        assert changes(checkout) == 0

        eventually(lambda: reached("backend-gcp1", "backend-aws1"), "the way that is about to die")
        subprocess.run(["podman", "kill", container["edge-aws1"]], check=True, capture_output=True)
        eventually(lambda: reached("backend-gcp1", "backend-aws1"), "traffic goes on through edge-aws2")
        eventually(lambda: reached("backend-aws2", "backend-azure1"), "and out of the cloud it was in")
    finally:
        for server in servers:
            server.kill()
            server.wait()
    (checkout.root / ".lab" / "interconnect").unlink()
    play = tmp_path / "none.yml"
    play.write_text(REMOVAL)
    removed = [checkout.playbook("-i", "inventories/lab", str(play)) for _ in range(2)]
    assert [done.returncode for done in removed] == [0, 0], removed[0].stdout[-3000:]
    counts = [sum(map(int, re.findall(r"changed=(\d+)", done.stdout))) for done in removed]
    assert counts[0] > 0 and counts[1] == 0
    left = checkout.must("script/lab", "ssh", "edge-gcp1", "sh", "-c", "ip rule; ip link; iptables-save")
    assert "51820" not in left and "mpwg" not in left and "MPWG" not in left
    checkout.must("script/lab", "down")
    rules = subprocess.run(
        ["iptables", "-w", "-t", "mangle", "-S"], check=True, capture_output=True, text=True
    )
    assert container["control1"].removesuffix("-control1") not in rules.stdout
