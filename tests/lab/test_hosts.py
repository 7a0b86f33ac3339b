"""Hosts and networks of the lab, without a site on them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.place import octet_of
from tests.lab.conftest import able
from tests.support.checkout import Checkout, held_by, podman_json
from tests.support.podman import patiently

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(600)]

LISTEN = "import socket; s = socket.create_server(('', 9090)); print(s.accept()[1][0])"


def up(checkout: Checkout) -> dict[str, str]:
    """Bring up the bare lab; host -> address."""
    said = checkout.must_json("script/lab", "up", "--bare", "--json")
    return {host["name"]: host["address"] for host in said["hosts"]}


def containers(checkout: Checkout) -> dict[str, tuple[str, str]]:
    """Container -> its identity and the moment it was started."""
    label = f"label=marchproxy.checkout={checkout.root}"
    return {
        entry["Names"][0]: (entry["Id"], entry["StartedAt"]) for entry in podman_json("ps", "--filter", label)
    }


@dataclass(frozen=True)
class Bare:
    """Hosts that stand, with nothing on them."""

    checkout: Checkout
    address: dict[str, str]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """One bare lab for all tests that leave it whole."""
    able()
    checkout = Checkout.copied_to(tmp_path_factory.mktemp("hosts") / "checkout")
    try:
        yield Bare(checkout, up(checkout))
    finally:
        checkout.run("script/lab", "down")


def test_a_second_up_changes_nothing_and_down_leaves_nothing(bare_checkout: Checkout) -> None:
    up(bare_checkout)
    first, held = containers(bare_checkout), held_by(bare_checkout.root)
    assert len(first) == 10 and len(held["networks"]) == 4

    up(bare_checkout)
    assert containers(bare_checkout) == first
    assert held_by(bare_checkout.root) == held

    bare_checkout.must("script/lab", "down")
    assert held_by(bare_checkout.root) == {"containers": [], "networks": [], "rules": []}
    assert not (bare_checkout.root / ".lab" / "octet").exists()
    assert bare_checkout.run("script/lab", "status").returncode == 1
    bare_checkout.must("script/lab", "down")


def test_a_half_made_lab_is_completed(bare: Bare) -> None:
    whole = containers(bare.checkout)
    names = sorted(whole)
    gone, stopped = names[0], names[1]
    patiently("rm", "--force", "--time", "0", gone)
    patiently("stop", "--time", "0", stopped)
    rule = next(line for line in held_by(bare.checkout.root)["rules"] if "-lab" in line)
    subprocess.run(["iptables", "-w", "-t", "nat", "-D", *rule.split()[1:]], check=True, capture_output=True)

    status = bare.checkout.run("script/lab", "status")
    assert status.returncode == 1 and "absent" in status.stdout and "exited" in status.stdout

    up(bare.checkout)
    completed = containers(bare.checkout)
    assert sorted(completed) == names
    assert {name for name in names if completed[name] != whole[name]} == {gone, stopped}
    assert rule in held_by(bare.checkout.root)["rules"]


def test_the_far_end_in_another_cloud_sees_the_true_source(bare: Bare) -> None:
    address = bare.address
    listener = subprocess.Popen(
        [bare.checkout.root / "script/lab", "ssh", "backend-azure1", "python3", "-c", LISTEN],
        stdout=subprocess.PIPE, text=True, cwd=bare.checkout.root,
    )  # fmt: skip
    dial = (
        "import socket, sys, time\n"
        "for _ in range(600):\n"
        "    try: socket.create_connection(('{}', 9090), 5); break\n"
        "    except ConnectionRefusedError: time.sleep(0.1)\n"
        "else: sys.exit('nobody listens')\n"
    ).format(address["backend-azure1"])
    bare.checkout.must("script/lab", "ssh", "edge-aws1", "python3", "-c", dial)
    seen, _ = listener.communicate(timeout=30)
    assert seen.strip() == address["edge-aws1"]


def test_a_range_in_use_is_evaded(bare_checkout: Checkout) -> None:
    octet = octet_of(bare_checkout.root)
    name = "mp-test-occupied"
    subprocess.run(
        ["podman", "network", "create", "--subnet", f"10.{octet}.7.0/24", name],
        check=True,
        capture_output=True,
    )
    try:
        address = up(bare_checkout)
    finally:
        subprocess.run(["podman", "network", "rm", name], check=True, capture_output=True)
    assert not address["control1"].startswith(f"10.{octet}.")
    inventory = bare_checkout.must(
        ".venv/bin/ansible", "control1", "-i", "inventories/lab/hosts.yml", "-m", "ansible.builtin.command",
        "-a", "ip -4 -brief address show eth0",
    )  # fmt: skip
    assert f"{address['control1']}/24" in inventory


def test_a_missing_host_is_told_by_the_connection(bare_checkout: Checkout) -> None:
    done = bare_checkout.run(
        ".venv/bin/ansible", "edge-gcp1", "-i", "inventories/lab/hosts.yml", "-m", "ansible.builtin.ping"
    )
    assert done.returncode == 4
    assert "there is no container" in done.stdout and "'script/lab up' makes the lab's hosts" in done.stdout


def test_files_come_and_go_whole(bare: Bare, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "sent file").write_bytes(content)
    inventory = ("edge-gcp1", "-i", "inventories/lab/hosts.yml")
    bare.checkout.must(
        ".venv/bin/ansible", *inventory, "-m", "ansible.builtin.copy",
        "-a", f"src='{tmp_path}/sent file' dest='/root/it came' mode=0600",
    )  # fmt: skip
    bare.checkout.must(
        ".venv/bin/ansible", *inventory, "-m", "ansible.builtin.fetch",
        "-a", f"src='/root/it came' dest='{tmp_path}/back' flat=true",
    )  # fmt: skip
    assert (tmp_path / "back").read_bytes() == content


def test_a_delegated_task_runs_on_the_other_host(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        "- hosts: ingress\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - {ansible.builtin.command: hostname, delegate_to: control1, register: there}\n"
        "    - {ansible.builtin.command: hostname, register: here}\n"
        "    - ansible.builtin.assert:\n"
        "        that: [there.stdout == 'control1', here.stdout == inventory_hostname]\n"
    )
    done = bare.checkout.playbook("-i", "inventories/lab/hosts.yml", str(tmp_path / "play.yml"))
    assert done.returncode == 0, done.stdout
