"""Bring the lab's hosts into being and down again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import apart, hosts, image, network, partners, place, wires
from lab.commands import ENVIRONMENT, podman_json
from lab.errors import LabError
from lab.place import ROOT, Place
from lab.progress import Progress, err
from lab.wan import running as wan

INVENTORY = ROOT / "inventories" / "lab" / "hosts.yml"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


def make_hosts(inventory: Path, progress: Progress) -> Place:
    """Complete the networks, containers and the routing rule of ``inventory``; returns where all of it is."""
    here = place.load(inventory)
    here = settle(here, inventory, progress)
    wanted_image = image.ensure(progress.say)
    have = network.existing(here)
    missing_networks = [net for net in here.networks if net.name not in have]
    network.ensure(here, missing_networks)
    containers = hosts.containers(here)
    states = {name: entry["State"] for name, entry in containers.items()}
    fresh = [host for host in here.hosts if host.container not in states]
    asleep = [host for host in here.hosts if states.get(host.container, "running") != "running"]
    if fresh:
        progress.say(f"making {len(fresh)} hosts: {', '.join(host.name for host in fresh)}")
    hosts.make_room(progress.say)
    for host in fresh:
        hosts.create(here, host, wanted_image)
    for host in asleep:
        progress.say(f"starting {host.name}, which was {states[host.container]}")
        hosts.start(host)
    if not network.routing_is_set(here):
        network.set_routing(here)
    apart.ensure(here, clouds_of(here))
    wan.renew(here)
    hosts.wait_until_booted(here.hosts, progress.say)
    wires.ensure(here, progress.say)
    old = [
        host.name
        for host in here.hosts
        if host.container in containers and containers[host.container]["Image"] != wanted_image
    ]
    if old:
        progress.note(f"{', '.join(old)}: made from an earlier image; 'script/lab down' and 'up' renew them")
    return here


def clouds_of(here: Place) -> list[str]:
    """The networks of the clouds: that of control is in none."""
    clouds = {host.network for host in here.hosts if host.cloud}
    return [net.subnet for net in here.networks if net.name in clouds]


def settle(here: Place, inventory: Path, progress: Progress) -> Place:
    """Choose the range of addresses: fixed once a network exists, else one that clashes with nothing."""
    if network.of_checkout(here):
        return here
    octet = network.free_octet(here)
    if octet == here.octet:
        return here
    chosen = here.root / ".lab" / "octet"
    chosen.parent.mkdir(exist_ok=True)
    chosen.write_text(f"{octet}\n")
    progress.note(f"this machine already uses {here.supernet}; the lab takes 10.{octet}.0.0/16")
    return place.load(inventory)


@dataclass(frozen=True)
class Recap:
    """What one run of a playbook did: host -> number of tasks that changed something."""

    changed: dict[str, int]
    seconds: float

    @property
    def total_changed(self) -> int:
        return sum(self.changed.values())


def run_playbook(
    playbook: str, here: Place, progress: Progress, *, verbose: bool = False, extra: tuple[str, ...] = ()
) -> Recap:
    """Run a playbook of the checkout on the lab, its output kept in .lab/; LabError shows the end of it."""
    here.state.mkdir(parents=True, exist_ok=True)
    log = here.state / f"{Path(playbook).stem}.log"
    began = progress.seconds
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        playbook,
        "-i",
        str(INVENTORY.parent),
        *extra,
    ]
    colourless = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    changed: dict[str, int] = {}
    with log.open("w") as kept:
        running = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=os.environ | ENVIRONMENT | colourless,
        )  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            kept.write(line)
            if verbose:
                err.print(line, end="", markup=False)
            elif line.startswith(("PLAY [", "fatal:", "[WARNING]", "[ERROR]")):
                progress.say(line.strip().strip("* ").replace("[", r"\["))
            if recap := RECAP.match(line):
                changed[recap[1]] = int(recap[3])
        code = running.wait()
    if code:
        tail = "".join(log.read_text().splitlines(keepends=True)[-40:])
        raise LabError(f"{playbook} failed ({code}):\n{tail}", f"the whole output is in {log}")
    return Recap(changed, progress.seconds - began)


def keys(here: Place) -> None:
    """The lab's partner authority, which the inventory refers to."""
    partners.ensure(here.state / "partners")


def tear_down(here: Place, *, forget: bool) -> dict[str, Any]:
    """Remove all this checkout holds on the machine; with ``forget`` also certificates and image."""
    wan.stop(here)
    containers = hosts.remove(here, hosts.states(here))
    wires.remove(here)
    networks = network.remove(here)
    rules = network.clear_routing(here) + apart.clear(here)
    here.apart.unlink(missing_ok=True)
    _remove(here.state / "pki")
    if not network.of_checkout(here):
        _remove(here.root / ".lab" / "octet")
    for log in here.state.glob("*.log"):
        log.unlink()
    if forget or here.name != "lab":
        _remove(here.state)
    if forget:
        _forget_images()
    return {"containers": containers, "networks": networks, "rules": rules}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _forget_images() -> None:
    from lab.commands import attempt

    for entry in podman_json("images", "--format", "json", "--filter", "reference=localhost/marchproxy-lab"):
        attempt(["podman", "rmi", "--force", entry["Id"]])
    for file in image.cache_folder().glob("host-*"):
        file.unlink()
