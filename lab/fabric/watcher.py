"""Keeps the fabric as the clouds have it, while the lab is there: one process of this machine for each lab.

It asks machines behind balancers whether they are well, as the clouds' health checks do and from
their addresses, and brings this machine to what the clouds hold whenever that, an answer or a bridge has
changed. The clouds' DNS is answered by it, and beside it the simulated AWS answers its machines
(`simcloud endpoint`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import clients
from lab.errors import LabError
from lab.fabric import running
from lab.fabric.checks import Checks
from lab.fabric.dns_server import Known, Server
from lab.fabric.world import World
from lab.place import ROOT, Place

ROUND_S, PATIENCE_S = 1.0, 20.0


def start(place: Place) -> None:
    """See that one runs."""
    if _process(place) is not None:
        return
    with _log(place).open("a") as log:
        subprocess.Popen(
            [sys.executable, "-m", "lab.fabric", "watch"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def stop(place: Place) -> None:
    """End it, and wait until it has ended."""
    number = _process(place)
    if number is None:
        return
    os.kill(number, signal.SIGTERM)
    end = time.monotonic() + PATIENCE_S
    while _process(place) == number:
        if time.monotonic() > end:
            raise LabError(f"process {number} of the lab's networks does not end", f"kill -9 {number}")
        time.sleep(0.05)


def watch(place: Place) -> None:
    """Until SIGTERM, or until the clouds are gone; at once if another does it already."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _only(place) as alone:
        if not alone:
            return
        watch = _Watch(place)
        try:
            while running.folder(place).is_dir():
                watch.round()
                time.sleep(ROUND_S)
        finally:
            watch.close()


class _Watch:
    """What the watcher keeps from round to round."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._checks = Checks(place)
        self._brought: object = None
        self._world: World | None = None
        self._names: Server | None = None
        self._endpoint: subprocess.Popen[bytes] | None = None

    def round(self) -> None:
        """Bring this machine to what is now; what fails is said, and tried again in the next round."""
        try:
            self._bring()
        except (LabError, OSError) as problem:
            print(problem, file=sys.stderr, flush=True)
            self._brought = None
        if self._endpoint is None or self._endpoint.poll() is not None:
            self._endpoint = _endpoint(self._place)

    def _bring(self) -> None:
        now = _signature(self._place)
        if self._world is None or now != self._brought:
            self._world = running.read(self._place)
            self._checks.asked = self._world.asked
        changed = self._checks.made()
        if changed or now != self._brought:
            running.ensure(self._place)
        self._answer(self._world)
        self._brought = now

    def _answer(self, world: World) -> None:
        """Keep the names' server at what is known; a lab without names has none."""
        if self._names is None and world.names and running.inside(self._place).exists():
            self._names = clients.inside(self._place, lambda: Server(running.names_at(self._place)))
        if self._names is not None:
            by_name = {one.name: one for one in world.names}
            self._names.known = Known(by_name, world.places, self._checks.well)

    def close(self) -> None:
        self._checks.close()
        if self._names is not None:
            self._names.close()
        if self._endpoint is not None:
            self._endpoint.kill()
            self._endpoint.wait()


def _signature(place: Place) -> object:
    """What changes when the clouds do, or when a bridge or a host comes or goes."""
    files = sorted(running.folder(place).glob("*.json"))
    wires = [one for one in socket.if_nameindex() if one[1].startswith(("podman", "veth"))]
    return [(file.name, file.stat().st_mtime_ns) for file in files], wires


def _endpoint(place: Place) -> subprocess.Popen[bytes] | None:
    """The simulated AWS for its machines, where those are who are in no cloud."""
    inside = running.inside(place)
    if not inside.exists():
        return None
    command = [running.PYTHON, "-m", "simcloud", "--world", running.folder(place), "endpoint"]
    return subprocess.Popen(
        ["nsenter", f"--net={inside}", *command, running.service(place)],
        cwd=ROOT / "pulumi", stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _lock(place: Place) -> Path:
    return place.state / "fabric.watcher"


def _log(place: Place) -> Path:
    return place.state / "fabric.log"


@contextmanager
def _only(place: Place) -> Iterator[bool]:
    """Whether this process is the only one; its number is in the file as long as it holds the lock."""
    with _lock(place).open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
        yield True


def _process(place: Place) -> int | None:
    """The process that holds the lock; None if none does."""
    try:
        with _lock(place).open("r+") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(held.read() or 0) or None
    except FileNotFoundError:
        pass
    return None
