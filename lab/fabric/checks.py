"""Health checks of balancers: asked when it is time, without waiting for those that do not answer."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import clients
from lab.fabric.routes import Asked, Probe
from lab.place import Place

_WORKERS = 16


@dataclass
class Verdict:
    """What is known of one machine by one check. Pure."""

    well: bool = False
    against: int = 0
    """Answers one after the other that speak against it."""
    fresh: bool = True
    """Nobody has asked yet: the first answer decides."""

    def take(self, good: bool, probe: Probe) -> None:
        """An answer, or that there was none."""
        self.against = 0 if good == self.well else self.against + 1
        if self.against >= (1 if self.fresh else probe.healthy_after if good else probe.unhealthy_after):
            self.well, self.against = good, 0
        self.fresh = False


class Checks:
    """All checks of a lab; what they find is in a file, for whoever makes rules of it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pool = ThreadPoolExecutor(max_workers=_WORKERS)
        self._due: dict[Asked, float] = {}
        self._running: dict[Asked, Future[bool]] = {}
        known = read(place)
        self._verdicts = {one: Verdict(well=True, fresh=False) for one in known}
        self._well = known
        self.asked: set[Asked] = known

    def made(self) -> bool:
        """Take what came, ask whom it is time to ask; whether anybody became well or ceased to be."""
        now = time.monotonic()
        for one, answer in list(self._running.items()):
            if answer.done():
                del self._running[one]
                self._verdicts.setdefault(one, Verdict()).take(answer.result(), one[0])
        for one in self.asked - self._running.keys():
            if self._due.get(one, 0) <= now:
                self._due[one] = now + one[0].interval_s
                self._running[one] = self._pool.submit(_answers, self._place, one)
        well = {one for one in self.asked if self._verdicts.get(one, Verdict()).well}
        if well == self._well:
            return False
        self._well = well
        _write(self._place, well)
        return True

    @property
    def well(self) -> frozenset[Asked]:
        """Whose answers are good now."""
        return frozenset(self._well)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def read(place: Place) -> set[Asked]:
    """Whose answers are good now, as the watcher left word."""
    try:
        said = json.loads(_file(place).read_text())
        return {(Probe(**{**probe, "accepts": tuple(probe["accepts"])}), address) for probe, address in said}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()


def _write(place: Place, well: Collection[Asked]) -> None:
    fresh = _file(place).with_suffix(".new")
    fresh.write_text(json.dumps([[asdict(probe), address] for probe, address in sorted(well, key=str)]))
    fresh.replace(_file(place))


def _file(place: Place) -> Path:
    return place.state / "pulumi" / "well.json"


def _answers(place: Place, asked: Asked) -> bool:
    probe, address = asked
    ask = _connected if probe.protocol == "tcp" else _good
    try:
        return clients.inside(place, lambda: ask(probe, address))
    except (OSError, http.client.HTTPException):
        return False


def _connected(probe: Probe, address: str) -> bool:
    socket.create_connection(
        (address, probe.port), timeout=probe.timeout_s, source_address=(probe.source, 0)
    ).close()
    return True


def _good(probe: Probe, address: str) -> bool:
    request = http.client.HTTPConnection(
        address, probe.port, timeout=probe.timeout_s, source_address=(probe.source, 0)
    )
    try:
        request.request("GET", probe.path)
        first, last = probe.accepts
        return first <= request.getresponse().status <= last
    finally:
        request.close()
