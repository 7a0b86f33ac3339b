"""The plans of the modules `nic`, `irq_affinity` and `tc_qos`, on a real interface with four queues."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        not shutil.which("ethtool"), reason="ethtool is not installed: script/test installs it"
    ),
]

PLAN = """
import subprocess
from ansible_collections.marchproxy.edge.plugins.module_utils import affinity, ethtool, htb, nic_plan
from pyroute2 import IPRoute

def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

def nic(wanted):
    return nic_plan.plan(ethtool.gather("edge0", run), wanted)

wanted = {"mtu": 1480, "channels": {"rx": "2", "tx": "max"}, "offloads": {"gro": True, "tx": False}}
before = ethtool.gather("edge0", run)
actions = nic(wanted)
nic_plan.carry_out(actions, run)
now = ethtool.gather("edge0", run)
assert (now.mtu, now.channels["rx"]) == (1480, 2), now
assert (now.offloads["gro"].on, now.offloads["tx"].on) == (True, False), now
assert nic(wanted) == []
for action in reversed(actions):
    assert run(list(action.undo))[0] == 0, action
assert ethtool.gather("edge0", run) == before

try:
    nic({"channels": {"rx": "5"}, "rings": {"rx": "64"}})
except ethtool.NicError as error:
    assert "takes 1 to 4" in str(error) and "rings.rx" in str(error), error
else:
    raise AssertionError("impossible channels were planned")

steps = affinity.plan(affinity.gather("edge0"))
assert steps, "one CPU serves a queue: RPS and XPS of veth say nothing at first"
assert affinity.apply(steps) == []
assert affinity.plan(affinity.gather("edge0")) == []

with IPRoute() as netlink:
    (index,) = netlink.link_lookup(ifname="edge0")
    def tree():
        return htb.tree_of(netlink.get_qdiscs(index=index), netlink.get_classes(index=index))
    for rate in ("40gbit", "10mbit", None):
        wanted = htb.wanted_tree("edge0", rate, {}) if rate else None
        for step in htb.plan("edge0", index, tree(), wanted):
            netlink.tc(step.verb, **step.arguments)
        assert htb.plan("edge0", index, tree(), wanted) == []
    assert tree().kind == ""
    assert run("tc qdisc add dev edge0 root tbf rate 1mbit burst 10k latency 10ms".split())[0] == 0
    try:
        htb.plan("edge0", index, tree(), htb.wanted_tree("edge0", "1gbit", {}))
    except htb.HtbError as error:
        assert "tbf stands at the root already" in str(error)
    else:
        raise AssertionError("another's discipline was replaced")
    for line in (
        "qdisc replace dev edge0 root handle 1: htb default 20",
        "class add dev edge0 parent 1: classid 1:1 htb rate 1gbit",
        "class add dev edge0 parent 1:1 classid 1:20 htb rate 1gbit",
    ):
        assert run(["tc", *line.split()])[0] == 0
    try:
        htb.plan("edge0", index, tree(), htb.wanted_tree("edge0", "1gbit", {}))
    except htb.HtbError as error:
        assert "htb 1: (classes: 1:1, 1:20) stands at the root already" in str(error), error
    else:
        raise AssertionError("another's HTB was taken for ours")
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"mp-nic-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    link = "link add edge0 numrxqueues 4 numtxqueues 4 type veth peer name peer0 numrxqueues 4 numtxqueues 4"
    try:
        subprocess.run(["ip", "-n", name, *link.split()], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_plans_come_true_are_then_empty_and_can_be_undone(namespace: str) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, ROOT / ".venv/bin/python", "-c", PLAN],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
