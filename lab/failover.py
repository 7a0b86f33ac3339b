"""Stop a cloud's backends under steady requests, and see them answered from the next cloud."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lab import checks, client, steady
from lab.commands import podman
from lab.place import HostSpec

FIRST_CLOUD, NEXT_CLOUD = "aws", "gcp"
SERVICE = "nginx"
# Steady answers from one cloud, after which it counts as having taken over.
SETTLED = 30
# Coming back takes what `failback` of the service says, and steps of ten seconds.
LIMIT_S = 90.0


@dataclass
class Watch(steady.Watch):
    """The cloud that answered each request, or what went wrong."""

    clouds: frozenset[str] = frozenset()
    """Whose answers are none that was lost: one of a third cloud came while the next one was asked again."""
    word: Callable[[client.Answer], str] = lambda answer: (
        answer.cloud if answer.status == 200 else str(answer.status)
    )

    def settled_on(self, cloud: str) -> bool:
        return len(self.met) >= SETTLED and set(self.met[-SETTLED:]) == {cloud}

    def losses(self) -> list[str]:
        return [word for word in self.met if word not in self.clouds]


def measure(
    proxies: tuple[HostSpec, ...], site: checks.Site, say: Callable[[str], None]
) -> dict[str, checks.Met]:
    """Proxy -> what its requests met while the first cloud's backends were stopped and started again."""
    everybody = site.place.in_group("shop_backends")
    backends = [host for host in everybody if host.cloud == FIRST_CLOUD]
    clouds = frozenset(host.cloud for host in everybody)
    watches = [Watch(proxy, clouds=clouds) for proxy in proxies]
    moved: dict[str, float] = {}
    with steady.requests(watches, site):
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
