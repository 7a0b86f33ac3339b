"""The lab's machines: containers with systemd as their first process."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.commands import attempt, podman, podman_json
from lab.errors import LabError
from lab.fabric.filter import card_of
from lab.network import CHECKOUT, NAME, labels
from lab.place import HostSpec, Place

BOOTED = ("running", "degraded")
# systemd and its services hold about six inotify instances per host; Debian allows 128 to all of root's.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 2048
MAX_OPEN_FILES = 1_048_576
# Ten at once on a small machine take their time.
BOOT_S = 240
REMOVALS = 3


def containers(place: Place) -> dict[str, dict[str, Any]]:
    """Container name -> what podman knows of it, of this lab's containers."""
    found = podman_json("ps", "--all", "--format", "json", "--filter", f"label={CHECKOUT}={place.root}")
    return {entry["Names"][0]: entry for entry in found if entry["Labels"].get(NAME) == place.name}


def states(place: Place) -> dict[str, str]:
    """Container name -> podman's word for its state (running, exited)."""
    return {name: entry["State"] for name, entry in containers(place).items()}


def create(
    place: Place, host: HostSpec, image: str, *, before_boot: Callable[[Path], None] | None = None
) -> None:
    """Make and start one host with its fixed address; ``before_boot`` is given its root file system."""
    # systemd and Envoy want many files; more than this process may have, the runtime may not give.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    podman(
        "create", "--name", host.container, "--hostname", host.name,
        *labels(place),
        "--network", host.network, "--ip", host.address, "--mac-address", card_of(host.address),
        "--privileged", "--systemd=always",
        "--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096", image, "/lib/systemd/systemd",
    )  # fmt: skip
    if before_boot is not None:
        root = Path(podman("mount", host.container).strip())
        try:
            before_boot(root)
        finally:
            podman("umount", host.container)
    start(host)


def make_room(said: Callable[[str], None]) -> None:
    """Let the kernel hand out enough inotify instances, until the next boot of this machine."""
    allowed = int(INOTIFY.read_text())
    if allowed >= INOTIFY_INSTANCES:
        return
    said(f"raising fs.inotify.max_user_instances from {allowed} to {INOTIFY_INSTANCES} (until the next boot)")
    try:
        INOTIFY.write_text(str(INOTIFY_INSTANCES))
    except OSError as problem:
        said(f"cannot raise it ({problem.strerror}): with several labs on one machine, hosts may not boot")


def start(host: HostSpec) -> None:
    podman("start", host.container)


def wait_until_booted(hosts: Iterable[HostSpec], said: Callable[[str], None]) -> None:
    """Wait until systemd has finished starting on every host; LabError names those where it did not."""
    waiting = list(hosts)
    with ThreadPoolExecutor(max_workers=4) as pool:
        words = list(pool.map(_boot, waiting))
    stuck = {host.name: word for host, word in zip(waiting, words, strict=True) if word not in BOOTED}
    if stuck:
        raise LabError(
            "these hosts did not boot: " + ", ".join(f"{name} ({word})" for name, word in stuck.items()),
            "script/lab down, then script/lab up; `podman logs NAME` shows systemd's own words",
        )
    said(f"{len(waiting)} hosts booted")


def _boot(host: HostSpec) -> str:
    # systemd's bus appears a moment after the process; a shell in the container polls for it, so that waiting
    # costs one exec and not one a second.
    script = (
        f"end=$(($(date +%s) + {BOOT_S})); "
        "while [ $(date +%s) -lt $end ]; do "
        "state=$(timeout 5 systemctl is-system-running --wait 2>/dev/null); "
        "case $state in running|degraded) break;; esac; sleep 0.2; "
        'done; echo "$state"'
    )
    return attempt(
        ["podman", "exec", host.container, "sh", "-c", script], timeout_s=BOOT_S + 30
    ).stdout.strip()


def remove(place: Place, names: Iterable[str]) -> list[str]:
    """Remove containers at once (nothing in them is worth a clean stop)."""
    gone = sorted(set(names) & set(states(place)))
    for tried in range(1, REMOVALS + 1):
        left = sorted(set(gone) & set(states(place)))
        if not left:
            break
        try:
            podman("rm", "--force", "--time", "0", "--volumes", *left)
        except LabError:
            # On a busy machine podman gives up before the last process is gone, and then it is gone.
            if tried == REMOVALS:
                raise
    return gone
