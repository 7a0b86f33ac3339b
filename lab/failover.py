"""Stop a cloud's backends under steady requests, and see them answered from the next cloud."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab import checks, client
from lab.commands import podman
from lab.errors import LabError
from lab.place import HostSpec

FIRST_CLOUD, NEXT_CLOUD = "aws", "gcp"
SERVICE = "nginx"
# Steady answers from one cloud, after which it counts as having taken over.
SETTLED = 30
LIMIT_S = 30.0


@dataclass
class Watch:
    """What steady requests through one proxy met, in order: the cloud that answered, or what went wrong."""

    proxy: HostSpec
    met: list[str] = field(default_factory=list)

    def settled_on(self, cloud: str) -> bool:
        return len(self.met) >= SETTLED and set(self.met[-SETTLED:]) == {cloud}

    def losses(self) -> list[str]:
        return [word for word in self.met if word not in (FIRST_CLOUD, NEXT_CLOUD)]


def measure(
    proxies: tuple[HostSpec, ...], site: checks.Site, say: Callable[[str], None]
) -> dict[str, checks.Met]:
    """Proxy -> what its requests met while the first cloud's backends were stopped and started again."""
    backends = [host for host in site.place.in_group("shop_backends") if host.cloud == FIRST_CLOUD]
    watches = [Watch(proxy) for proxy in proxies]
    moved: dict[str, float] = {}
    with _requests(watches, site):
        _until(watches, FIRST_CLOUD)
        try:
            say(f"stopping {SERVICE} on {', '.join(host.name for host in backends)}")
            began = time.monotonic()
            for host in backends:
                podman("exec", host.container, "systemctl", "stop", SERVICE)
            moved = _until(watches, NEXT_CLOUD)
        finally:
            for host in backends:
                podman("exec", host.container, "systemctl", "start", SERVICE)
        back = _until(watches, FIRST_CLOUD)
    return {watch.proxy.name: _judge(watch, moved, back, began) for watch in watches}


def _judge(watch: Watch, moved: dict[str, float], back: dict[str, float], began: float) -> checks.Met:
    name, lost = watch.proxy.name, watch.losses()
    if name not in moved:
        return checks.Met(f"never settled on {NEXT_CLOUD}; last answers: {', '.join(watch.met[-3:])}", False)
    if name not in back:
        return checks.Met(f"from {NEXT_CLOUD}, but did not come back to {FIRST_CLOUD}", False)
    asked = len(watch.met)
    words = f"from {NEXT_CLOUD} in {moved[name] - began:.1f} s, and back; {len(lost)} of {asked} lost"
    return checks.Met(words + (f" ({lost[0]})" if lost else ""), not lost)


@contextmanager
def _requests(watches: list[Watch], site: checks.Site) -> Iterator[None]:
    """Requests through every proxy, one after another on each, until the block ends."""
    over = threading.Event()
    threads = [threading.Thread(target=_ask, args=(watch, site, over), daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=2 * client.TIMEOUT_S)
    if any(thread.is_alive() for thread in threads):
        raise LabError("a request did not end", "script/lab status shows whether the proxies run")


def _ask(watch: Watch, site: checks.Site, over: threading.Event) -> None:
    connection: client.Connection | None = None
    while not over.wait(0.02):
        try:
            connection = connection or client.Connection(
                watch.proxy.address, checks.HTTPS_PORT, sni=checks.SHOP, identity=site.anonymous
            )
            answer = connection.get("/", checks.SHOP)
            watch.met.append(answer.cloud if answer.status == 200 else str(answer.status))
        except (OSError, http.client.HTTPException) as problem:
            watch.met.append(type(problem).__name__)
            if connection:
                connection.close()
            connection = None
    if connection:
        connection.close()


def _until(watches: list[Watch], cloud: str) -> dict[str, float]:
    """Wait until every proxy answers from ``cloud``; proxy -> when it had settled there (those that did)."""
    settled: dict[str, float] = {}
    end = time.monotonic() + LIMIT_S
    while len(settled) < len(watches) and time.monotonic() < end:
        for watch in watches:
            if watch.proxy.name not in settled and watch.settled_on(cloud):
                settled[watch.proxy.name] = time.monotonic()
        time.sleep(0.05)
    return settled
