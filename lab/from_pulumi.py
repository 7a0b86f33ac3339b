"""The lab whose hosts a Pulumi stack makes: real programs and engine, simulated clouds, the lab's recipe."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ansible_runner

from lab import cloud_site, hosts, image, network, place, site, wires
from lab.commands import ENVIRONMENT, attempt, run
from lab.errors import LabError
from lab.fabric import running as fabric
from lab.fabric import watcher
from lab.place import ROOT, HostSpec, Place
from lab.progress import Progress, err
from plugins.module_utils import stack_inventory

STACK = "lab"
INVENTORY = ROOT / "inventories" / "lab-pulumi"
SITE = ROOT / "pulumi" / "sites" / "lab.yaml"
FOLDER = "pulumi"
# The site's authority of SSH host keys, and the key that Ansible logs in with.
HOST_CA, LOGIN = "host-ca", "login"
UP_S = 1800


def is_made(root: Path = ROOT) -> bool:
    """Whether this checkout's lab is one that Pulumi made, wholly or in part."""
    return (root / ".lab" / FOLDER / "state" / ".pulumi" / "stacks").is_dir()


def pulumi(*words: str, timeout_s: float = 600) -> str:
    """What the engine says to a command on the lab's stack; LabError if it fails."""
    return run([ROOT / "script" / "pulumi", "--lab", *words], timeout_s=timeout_s)


def prepare(here: Place) -> None:
    """The stack, its settings and the site file in this checkout's range; needs no engine that runs."""
    folder = here.state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for key in (folder / HOST_CA, folder / LOGIN):
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key])
    login = (folder / f"{LOGIN}.pub").read_text().strip()
    cloud_site.write(SITE, folder / "lab.yaml", here.octet, login)


def make_hosts(progress: Progress) -> Place:
    """`pulumi up`: every host of the site file, booted; returns where all of it is."""
    plain = place.load(site.INVENTORY)
    if hosts.states(plain) and not is_made():
        raise LabError(
            "the lab is up, made without Pulumi", "script/lab down, then script/lab up --from-pulumi"
        )
    here = site.settle(plain, site.INVENTORY, progress)
    image.ensure(progress.say)
    hosts.make_room(progress.say)
    prepare(here)
    progress.say("getting the Pulumi engine and its environment ready")
    run([ROOT / "script" / "pulumi", "--prepare"], timeout_s=UP_S)
    _configure(here)
    if not network.routing_is_set(here):
        network.set_routing(here)
    progress.say(f"pulumi up: the hosts of {SITE.relative_to(ROOT)} in three simulated clouds")
    _follow(here, progress, "up", "--yes", "--skip-preview", "--suppress-outputs")
    made = from_stack(here)
    asleep = [host for host in made.hosts if hosts.states(made).get(host.container) != "running"]
    for host in asleep:
        progress.say(f"starting {host.name}")
        hosts.start(host)
    hosts.wait_until_booted(made.hosts, progress.say)
    fabric.ensure(made)
    watcher.start(made)
    wires.ensure(made, progress.say)
    return made


def _configure(here: Place) -> None:
    folder = here.state / FOLDER
    pulumi("stack", "select", "--create", STACK)
    pulumi("config", "set", "edge:site", str(folder / "lab.yaml"))
    key = (folder / HOST_CA).read_text()
    run([ROOT / "script" / "pulumi", "--lab", "config", "set", "--secret", "edge:hostCaKey"], stdin=key)


def _follow(here: Place, progress: Progress, *words: str) -> None:
    """A long command of the engine, its output kept in .lab/; what it makes is said as it comes."""
    log = here.state / "pulumi.log"
    command = [str(ROOT / "script" / "pulumi"), "--lab", *words, "--non-interactive"]
    with log.open("w") as kept:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert running.stdout is not None
        for line in running.stdout:
            kept.write(line)
            if is_milestone(line):
                progress.say(" ".join(line.split()))
        code = running.wait()
    if code:
        tail = "".join(log.read_text().splitlines(keepends=True)[-30:])
        raise LabError(
            f"pulumi {words[0]} failed ({code}):\n{tail}", f"the whole output is in {log}; run it again"
        )


def is_milestone(line: str) -> bool:
    """Whether a line of the engine says that a host has been made or removed, or how much was done."""
    words = line.split()
    host = any(
        kind in line
        for kind in ("aws:ec2:Instance", "gcp:compute:Instance", "azure-native:compute:VirtualMachine")
    )
    done = any(word in words for word in ("created", "deleted", "updated", "replaced", "failed"))
    return (host and done) or line.startswith("error:")


def from_stack(here: Place) -> Place:
    """The lab as the stack's output describes it."""
    try:
        found = stack_inventory.check(stack_inventory.from_state(STACK, str(here.state / FOLDER / "state")))
    except stack_inventory.StackUnreadable as problem:
        raise LabError(
            str(problem), "script/lab up --from-pulumi completes it; script/lab down removes it"
        ) from None
    made = tuple(_host(here, host) for host in found["hosts"])
    fronts = tuple(_balancer(vip) for vip in found["vips"])
    return replace(here, hosts=made, networks=(), from_clouds=True, balancers=fronts)


def _balancer(vip: dict[str, Any]) -> HostSpec:
    return HostSpec(
        name=str(vip["name"]),
        container="",
        network="",
        address=str(vip["address"]),
        groups=(str(vip["region"]),),
        cloud=str(vip["cloud"]),
    )


def _host(here: Place, host: dict[str, Any]) -> HostSpec:
    name = str(host["name"])
    return HostSpec(
        name=name,
        container=f"{here.prefix}-{name}",
        network="",
        address=str(host["private_address"]),
        groups=("lab", host["cloud"], *host["groups"]),
        cloud=str(host["cloud"]),
    )


def run_playbook(playbook: str, here: Place, progress: Progress, *, verbose: bool = False) -> site.Recap:
    """Run a playbook on the stack's hosts with ansible-runner; LabError names what failed and where."""
    began = progress.seconds
    log = (here.state / f"{Path(playbook).stem}.log").open("w")
    failed: list[str] = []
    stats: dict[str, dict[str, int]] = {}

    def on_event(event: dict[str, Any]) -> bool:
        text = event.get("stdout") or ""
        if text:
            log.write(text + "\n")
            log.flush()
        if verbose and text:
            err.print(text, markup=False)
        elif event["event"] == "playbook_on_play_start":
            progress.say(f"PLAY \\[{event['event_data'].get('name')}]")
        if event["event"] == "playbook_on_stats":
            stats.update(event["event_data"])
        if event["event"] in ("runner_on_failed", "runner_on_unreachable"):
            data = event["event_data"]
            if not data.get("ignore_errors"):
                failed.append(f"{data.get('host')}: {data.get('task')}: {_words(data.get('res') or {})}")
        return False

    folder = here.state / "runner"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        done = ansible_runner.run(
            private_data_dir=str(folder), project_dir=str(ROOT), playbook=playbook, inventory=str(INVENTORY),
            envvars={**ENVIRONMENT, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            event_handler=on_event, quiet=True, settings={"suppress_ansible_output": True},
        )  # fmt: skip
    finally:
        log.close()
    if done.rc:
        raise LabError(f"{playbook} failed:\n" + "\n".join(failed[:10]), f"the whole output is in {log.name}")
    changed = {name: stats["changed"].get(name, 0) for name in sorted(stats["processed"])}
    return site.Recap(changed, progress.seconds - began)


def _words(result: dict[str, Any]) -> str:
    return str(result.get("msg") or result.get("stderr") or result)[:600]


def tear_down(here: Place, progress: Progress) -> int:
    """`pulumi destroy`, and the stack itself; what is left then is an error of ours, and said.

    Returns how many hosts it removed.
    """
    progress.say("pulumi destroy")
    before = len(hosts.states(here))
    if attempt([ROOT / "script" / "pulumi", "--lab", "stack", "select", STACK]).returncode == 0:
        attempt([ROOT / "script" / "pulumi", "--lab", "cancel", "--yes"])
        # Addresses are protected: real ones outlive their hosts.
        pulumi("state", "unprotect", "--all", "--yes")
        _follow(here, progress, "destroy", "--yes", "--skip-preview")
        left = sorted(hosts.states(here))
        if left:
            progress.note(f"left behind by pulumi destroy: {', '.join(left)}")
        pulumi("stack", "rm", STACK, "--yes")
    watcher.stop(here)
    fabric.remove(here)
    hang_up(here)
    shutil.rmtree(here.state / FOLDER, ignore_errors=True)
    shutil.rmtree(here.state / "runner", ignore_errors=True)
    for name in ("fabric.lock", "fabric.nft", "fabric.watcher", "networks.lock"):
        (here.state / name).unlink(missing_ok=True)
    return before - len(hosts.states(here))


def hang_up(here: Place) -> None:
    """End Ansible's connections, which outlive a playbook by a minute: their hosts are gone."""
    folder = Path(f"/run/{here.prefix}-ssh")
    for socket in folder.glob("*"):
        attempt(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"])
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # script/pulumi --lab: the site file may have been edited since.
    try:
        prepare(place.load(site.INVENTORY))
    except LabError as problem:
        sys.exit(f"{problem.what}; {problem.remedy}".rstrip("; "))
