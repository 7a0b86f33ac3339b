"""A backend cloud dies, browns out and hangs under traffic: what requests met, what was decided and when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lab import client, steady
from lab.commands import podman
from lab.demos.stage import Demo, Shown, Stage
from lab.errors import LabError
from lab.place import HostSpec

STORY = """\
Sends requests through every proxy, one after another. Meanwhile the backends of the cloud that comes first

  1. are killed (nginx is stopped),
  2. answer 503 to every request while their health path stays green,
  3. hang (nginx is stopped in its tracks: connections open, no answer comes),

each until every proxy is answered from another cloud and control has decided the same, and then mended, until
everything is back where it was. `xds-agent what-if --cloud-down` is asked before, and has to have said where
the requests then went. No request may fail.
"""
SERVICE = "shop"
CONFIGURATION = "/etc/nginx/conf.d/marchproxy-backend.conf"
BROWN = f"sed -i 's|location / {{|location / {{ return 503;|' {CONFIGURATION} && nginx -s reload"
MENDED = f"sed -i 's|location / {{ return 503;|location / {{|' {CONFIGURATION} && nginx -s reload"
# Fault -> (what the row says, command that makes it, command that mends it, whether probes can see it).
FAULTS = (
    ("killed", "systemctl stop nginx", "systemctl start nginx", True),
    ("answering 503, its health path green", BROWN, MENDED, False),
    ("hanging", "systemctl kill -s STOP nginx", "systemctl kill -s CONT nginx", True),
)
SETTLED = 30
PATIENCE_S = 180.0
BROWNOUT_S = 10.0


def _cloud(answer: client.Answer) -> str:
    return answer.cloud if answer.status == 200 else str(answer.status)


def play(stage: Stage) -> Iterable[Shown]:
    """A row for the prediction, two for each fault."""
    control = stage.place.in_group("control")[0]
    first = _serving(control)
    backends = [host for host in stage.place.in_group("shop_backends") if host.cloud == first]
    predicted = _predicted(control, first)
    watches = [steady.Watch(proxy, "/", _cloud) for proxy in stage.place.in_group("ingress")]
    met: set[str] = set()
    for words, make, mend, seen in FAULTS:
        before = [len(watch.met) for watch in watches]
        with steady.requests(watches, stage.site):
            began = time.monotonic()
            stage.say(f"{first} is {words}")
            with _fault(backends, make, mend):
                moved = _until(lambda f=first, w=watches: all(_elsewhere(one, f) for one in w)) - began
                if seen:
                    decided = _until(lambda c=control, f=first: _serving(c) != f) - began
                else:
                    decided = 0.0
                    time.sleep(BROWNOUT_S)
                met |= {word for watch in watches for word in watch.met[-SETTLED:]}
            back = time.monotonic()
            _until(lambda c=control, f=first: _serving(c) == f)
            _until(lambda f=first, w=watches: all(set(one.met[-SETTLED:]) == {f} for one in w))
            back = time.monotonic() - back
        yield _lossless(words, watches, before)
        told = (
            f"; control decided the same after {decided:.1f} s" if seen else "; control had nothing to decide"
        )
        yield Shown(
            f"{first} {words}: its requests go elsewhere, and come back by themselves",
            f"elsewhere after {moved:.1f} s{told}; back {back:.0f} s after it was mended", True,
        )  # fmt: skip
    went = met - {first}
    yield Shown(
        f"what-if --cloud-down {first} said where they would go",
        f"predicted {', '.join(sorted(predicted))}; they went to {', '.join(sorted(went))}",
        predicted == went,
    )  # fmt: skip


@contextmanager
def _fault(backends: Iterable[HostSpec], make: str, mend: str) -> Iterator[None]:
    hosts = list(backends)
    try:
        for host in hosts:
            podman("exec", host.container, "sh", "-c", make)
        yield
    finally:
        for host in hosts:
            podman("exec", host.container, "sh", "-c", mend)


def _elsewhere(watch: steady.Watch, cloud: str) -> bool:
    return len(watch.met) >= SETTLED and cloud not in watch.met[-SETTLED:]


def _until(reached: Callable[[], bool]) -> float:
    """Wait; the time at which it was so. Raises LabError when it never is."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise LabError("the lab did not come to rest", "script/lab ssh control1 xds-agent routes shop")
        time.sleep(0.1)
    return time.monotonic()


def _asked(control: HostSpec, *command: str) -> list[dict[str, Any]]:
    said = json.loads(podman("exec", control.container, "xds-agent", *command, "--json"))
    return list(said["routes"])


def _serving(control: HostSpec) -> str:
    """The cloud that everybody's requests go to, by what control decided; empty while it is more than one."""
    clouds = {row["cloud"] for row in _asked(control, "routes", SERVICE) if row["share"]}
    return clouds.pop() if len(clouds) == 1 else ""


def _predicted(control: HostSpec, down: str) -> set[str]:
    rows = _asked(control, "what-if", "--cloud-down", down, "--service", SERVICE)
    return {row["cloud"] for row in rows if row["share"]}


def _lossless(words: str, watches: list[steady.Watch], before: list[int]) -> Shown:
    clouds = {"aws", "gcp", "azure"}
    met = [word for watch, at in zip(watches, before, strict=True) for word in watch.met[at:]]
    failed = [word for word in met if word not in clouds]
    came = f"{len(failed)} failed of {len(met)} requests" + (
        f" ({', '.join(sorted(set(failed)))})" if failed else ""
    )
    return Shown(f"no request fails while a cloud is {words}", came, bool(met) and not failed)


DEMO = Demo("failover", "a backend cloud dies, browns out and hangs under traffic", STORY, play)
