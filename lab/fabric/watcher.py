"""Keeps the fabric as the clouds have it, while the lab is there: one process of this machine for each lab.

It asks machines behind internal balancers whether they are well, as the clouds' health checks do and from
their addresses, and brings this machine to what the clouds hold whenever that, an answer or a bridge has
changed. Beside it the simulated AWS answers its machines (`simcloud endpoint`).
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lab import clients
from lab.errors import LabError
from lab.fabric import routes, running
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
        checks = Checks(place)
        brought: object = None
        endpoint: subprocess.Popen[bytes] | None = None
        try:
            while running.folder(place).is_dir():
                brought = _round(place, checks, brought)
                if endpoint is None or endpoint.poll() is not None:
                    endpoint = _endpoint(place)
                time.sleep(ROUND_S)
        finally:
            if endpoint is not None:
                endpoint.kill()
                endpoint.wait()


def _round(place: Place, checks: Checks, brought: object) -> object:
    """What this machine was brought to last; what fails is said, and tried again in the next round."""
    try:
        now = _signature(place)
        if now != brought:
            checks.asked = routes.asked(running.read(place).subnets)
        if checks.made() or now != brought:
            running.ensure(place)
    except (LabError, FileNotFoundError) as problem:
        print(problem, file=sys.stderr, flush=True)
        return None
    return now


class Checks:
    """Health checks of balancers, round by round."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.asked: set[routes.Asked] = set()
        self._silent: dict[routes.Asked, int] = {}
        self._due: dict[routes.Asked, float] = {}
        self._well: set[routes.Asked] = set()

    def made(self) -> bool:
        """Ask whom it is time to ask; whether anybody became well or ceased to be."""
        now = time.monotonic()
        due = sorted((one for one in self.asked if self._due.get(one, 0) <= now), key=str)
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(self._answers, due))
        for one, good in zip(due, answers, strict=True):
            self._due[one] = now + one[0].interval_s
            self._silent[one] = 0 if good else self._silent.get(one, one[0].unhealthy_after) + 1
        well = {one for one in self.asked if self._silent.get(one, 1) < one[0].unhealthy_after}
        if well == self._well:
            return False
        self._well = well
        fresh = self._place.state / "pulumi" / "well.new"
        fresh.write_text(json.dumps([[asdict(probe), address] for probe, address in sorted(well, key=str)]))
        fresh.replace(self._place.state / "pulumi" / "well.json")
        return True

    def _answers(self, asked: routes.Asked) -> bool:
        probe, address = asked
        try:
            return clients.inside(self._place, lambda: _get(probe, address)) == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _get(probe: routes.Probe, address: str) -> int:
    request = http.client.HTTPConnection(
        address, probe.port, timeout=ROUND_S, source_address=(probe.source, 0)
    )
    try:
        request.request("GET", probe.path)
        return request.getresponse().status
    finally:
        request.close()


def _signature(place: Place) -> object:
    """What changes when the clouds do, or when a bridge comes or goes."""
    files = sorted(running.folder(place).glob("*.json"))
    bridges = [one for one in socket.if_nameindex() if one[1].startswith("podman")]
    return [(file.name, file.stat().st_mtime_ns) for file in files], bridges


def _endpoint(place: Place) -> subprocess.Popen[bytes] | None:
    """The simulated AWS for its machines, where those are who are in no cloud."""
    inside = Path("/run/netns", clients.namespace(place))
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
