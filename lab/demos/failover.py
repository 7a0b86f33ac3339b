"""A backend cloud fails under traffic in every way it can: what requests met, what was decided and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lab import client, steady
from lab.commands import podman
from lab.demos import control
from lab.demos.edits import edited
from lab.demos.stage import Demo, Shown, Stage
from lab.place import HostSpec
from lab.wan import running, table
from lab.wan.table import Change

STORY = """\
Sends requests through every proxy, one after another. Meanwhile the backends of the cloud that comes first

  1. are killed (nginx is stopped),
  2. answer 503 to every request while their health path stays green,
  3. answer a request every five seconds while their health path stays green,
  4. hang (nginx is stopped in its tracks: connections open, no answer comes),
  5. stand behind lines that lose 5 % of all packets each way, 40 ms away (script/lab wan),
  6. are cut off from one other cloud, and from that one alone,

each for a while or until every proxy is answered from another cloud and control has decided the same, and
then mended, until everything is back where it was. `xds-agent what-if --cloud-down` is asked before, and has
to have said where the requests then went. Last, a service goes where a gigabyte is cheapest, and

  7. that cloud's price is raised in the inventory (inventories/lab/edge/demo-failover.yml, applied with
     playbooks/routes.yml and removed again).

No request may fail.
"""
SERVICE = "shop"
CONFIGURATION, KEPT = "/etc/nginx/conf.d/marchproxy-backend.conf", "/run/marchproxy-demo.conf"
# The file comes back with its date: a later site.yml finds nothing newer than what nginx started with.
KEEP = f"test -e {KEPT} || cp -p {CONFIGURATION} {KEPT}"
MENDED = f"cp -p {KEPT} {CONFIGURATION} && rm {KEPT} && nginx -s reload"
BROWN = f"{KEEP}; sed -i 's|location / {{|location / {{ return 503;|' {CONFIGURATION} && nginx -s reload"
# What `return` answers no limit holds up; what is found by try_files is.
SLOW = (
    f"{KEEP}; sed -i -e 's|location / {{|location / {{ limit_req zone=slow burst=10000; "
    "try_files /none @slow; } location @slow {|' "
    f"-e '1i limit_req_zone $server_port zone=slow:64k rate=12r/m;' {CONFIGURATION} && nginx -s reload"
)


@dataclass(frozen=True)
class Fault:
    """What happens to the first cloud's backends."""

    words: str
    make: str
    mend: str
    seen: bool
    """Whether probes can see it, so that control has something to decide."""


FAULTS = (
    Fault("killed", "systemctl stop nginx", "systemctl start nginx", True),
    Fault("answering 503, its health path green", BROWN, MENDED, False),
    Fault("answering a request every five seconds, its health path green", SLOW, MENDED, False),
    Fault("hanging", "systemctl kill -s STOP nginx", "systemctl kill -s CONT nginx", True),
)
SETTLED = 30
UNSEEN_S = 10.0
LOSS = Change(rtt=timedelta(milliseconds=40), loss_ppm=table.parse_loss("5%"))
LOSS_S = 20.0
CUT = Change(loss_ppm=table.parse_loss("100%"))
PRICED = "demo-price"
CHEAP, DEARER, DEAR = 0.05, 0.09, 0.25


def _cloud(answer: client.Answer) -> str:
    return answer.cloud if answer.status == 200 else str(answer.status)


def play(stage: Stage) -> Iterable[Shown]:
    """A row for the prediction, two for each fault."""
    first = _serving(stage)
    backends = [host for host in stage.place.in_group("shop_backends") if host.cloud == first]
    predicted = _clouds(control.what_if(stage, "--cloud-down", first, "--service", SERVICE))
    watches = [steady.Watch(proxy, "/", _cloud) for proxy in stage.place.in_group("ingress")]
    met: set[str] = set()
    for fault in FAULTS:
        before = [len(watch.met) for watch in watches]
        with steady.requests(watches, stage.site):
            stage.say(f"{first} is {fault.words}")
            told = _broken(stage, fault, first, backends, watches, met)
        yield _lossless(f"while a cloud is {fault.words}", watches, before)
        yield Shown(
            f"{first} {fault.words}: its requests go elsewhere, and come back by themselves", told, True
        )
    went = met - {first}
    yield Shown(
        f"what-if --cloud-down {first} said where they would go",
        f"predicted {', '.join(sorted(predicted))}; they went to {', '.join(sorted(went))}",
        predicted == went,
    )  # fmt: skip
    yield from _lossy(stage, first, watches)
    yield from _parted(stage, first, watches)
    yield from _priced(stage, first)


def _broken(
    stage: Stage, fault: Fault, first: str, backends: Sequence[HostSpec], watches: Sequence[steady.Watch],
    met: set[str],
) -> str:  # fmt: skip
    """Break, see it move, mend, see it come back; in words what was seen when."""
    began = time.monotonic()
    decided = "control had nothing to decide"
    with _fault(backends, fault):
        moved = control.until(lambda: all(_elsewhere(one, first) for one in watches)) - began
        if fault.seen:
            after = control.until(lambda: _serving(stage) not in ("", first)) - began
            decided = f"control decided the same after {after:.1f} s"
        else:
            time.sleep(UNSEEN_S)
        met |= {word for watch in watches for word in watch.met[-SETTLED:]}
    mended = time.monotonic()
    control.until(lambda: _serving(stage) == first)
    control.until(lambda: all(set(one.met[-SETTLED:]) == {first} for one in watches))
    back = time.monotonic() - mended
    return f"elsewhere after {moved:.1f} s; {decided}; back {back:.0f} s after it was mended"


def _lossy(stage: Stage, first: str, watches: Sequence[steady.Watch]) -> Iterator[Shown]:
    started = [len(watch.met) for watch in watches]
    others = {host.cloud for host in stage.place.hosts if host.cloud and host.cloud != first}
    stage.say(f"lines to {first} lose 5 % of all packets")
    with steady.requests(watches, stage.site), _lines(stage, first, others, LOSS) as counts:
        time.sleep(LOSS_S)
        lost, packets = sum(one.lost for one in counts()), sum(one.packets for one in counts())
    row = _lossless(f"while lines to {first} lose 5 %", watches, started)
    came = f"{row.came}; {lost} of {packets} packets were lost"
    yield Shown(row.claim, came, row.as_claimed and lost > 0)


def _parted(stage: Stage, first: str, watches: Sequence[steady.Watch]) -> Iterator[Shown]:
    """The line between the first cloud and one other is cut."""
    other = sorted({watch.proxy.cloud for watch in watches if watch.proxy.cloud} - {first})[0]
    cut_off = [watch for watch in watches if watch.proxy.cloud == other]
    started = [len(watch.met) for watch in watches]
    stage.say(f"the line between {first} and {other} is cut")
    with steady.requests(watches, stage.site):
        began = time.monotonic()
        with _lines(stage, first, {other}, CUT):
            moved = control.until(lambda: all(_elsewhere(one, first) for one in cut_off)) - began
            decided = control.until(lambda: first not in _clouds(_from(stage, other))) - began
            rows = control.routes(stage, SERVICE)
            elsewhere = _clouds(row for row in rows if not row["seen_from"].startswith(f"{other} "))
        mended = time.monotonic()
        back = control.until(lambda: _serving(stage) == first) - mended
    met = {
        word for watch, at in zip(watches, started, strict=True) if watch.proxy.cloud != other
        for word in watch.met[at:]
    }  # fmt: skip
    yield _lossless(f"while the line between {first} and {other} is cut", watches, started)
    yield Shown(
        f"only {other} sees that {first} is gone: nothing changes for other places",
        f"from {other} elsewhere after {moved:.1f} s, control decided the same after {decided:.1f} s, back "
        f"{back:.0f} s after it was mended; others were answered from {', '.join(sorted(met))} throughout",
        elsewhere == {first} and met == {first},
    )  # fmt: skip


def _from(stage: Stage, cloud: str) -> list[dict[str, Any]]:
    rows = control.routes(stage, SERVICE)
    return [row for row in rows if row["seen_from"].startswith(f"{cloud} ")]


@contextmanager
def _lines(
    stage: Stage, cloud: str, others: Iterable[str], change: Change
) -> Iterator[Callable[[], list[table.Met]]]:
    """Lines between a cloud and others, changed for a while; gives what packets met on them."""
    known = running.sides(stage.place)
    before = {at: way for at, (way, _) in running.state(stage.place, known).items()}
    changed: table.Ways = before
    for other in sorted(set(others) & known.keys()):
        changed = table.changed(changed, (cloud, other), change)
    running.apply(stage.place, changed, known)
    try:
        yield lambda: [met for at, (_, met) in running.state(stage.place, known).items() if cloud in at]
    finally:
        running.apply(stage.place, before, known)


def _priced(stage: Stage, first: str) -> Iterator[Shown]:
    """From proxies of the first cloud, a service of the two others; the cheaper one becomes the dearer."""
    proxies = [proxy for proxy in stage.place.in_group("ingress") if proxy.cloud == first]
    clouds = sorted({host.cloud for host in stage.place.in_group("shop_backends") if host.cloud} - {first})
    cheap, other = clouds[0], clouds[1]
    watches = [steady.Watch(proxy, f"/{PRICED}", _cloud) for proxy in proxies]
    with edited(stage, "failover") as apply:
        stage.say(f"a service goes to {cheap}, where a gigabyte costs {CHEAP} USD")
        apply(_inventory(clouds, {cheap: CHEAP, other: DEARER}))
        predicted = _clouds(
            row for row in control.what_if(stage, "--price", f"{cheap}={DEAR}", "--service", PRICED)
            if row["seen_from"].startswith(first)
        )  # fmt: skip
        with steady.requests(watches, stage.site):
            control.until(lambda: all(_only(one, cheap) for one in watches))
            stage.say(f"a gigabyte of {cheap} costs {DEAR} USD")
            apply(_inventory(clouds, {cheap: DEAR, other: DEARER}))
            applied = time.monotonic()
            moved = control.until(lambda: all(_only(one, other) for one in watches)) - applied
        [why] = {
            row["why"] for row in control.routes(stage, PRICED)
            if row["seen_from"].startswith(first) and row["share"]
        }  # fmt: skip
    yield _lossless(f"while {cheap} becomes dearer than {other}", watches, [0] * len(watches))
    yield Shown(
        f"what-if --price {cheap}={DEAR} said where requests from {first} would go",
        f"predicted {', '.join(sorted(predicted))}; all went to {other} {moved:.1f} s after the play had "
        f"ended: it {why}", predicted == {other},
    )  # fmt: skip


def _inventory(clouds: Sequence[str], prices: dict[str, float]) -> dict[str, object]:
    service = {
        "name": PRICED, "tenant": "retail", "endpoints": [{"group": "shop_backends", "port": 8080}],
        "health": {"path": "/healthz", "interval": "1s", "timeout": "500ms"}, "retries": 2,
        "steering": {
            "algorithm": "cost", "mode": "active-passive", "order": list(clouds),
            "hold": "1s", "max_shift": 100,
        },
    }  # fmt: skip
    route = {"name": PRICED, "domains": ["shop.example.com"], "prefix": f"/{PRICED}", "service": PRICED}
    return {
        "services": [service], "routes": [route],
        "clouds": {cloud: {"egress_usd_per_gb": usd} for cloud, usd in prices.items()},
    }  # fmt: skip


@contextmanager
def _fault(hosts: Sequence[HostSpec], fault: Fault) -> Iterator[None]:
    try:
        for host in hosts:
            podman("exec", host.container, "sh", "-c", fault.make)
        yield
    finally:
        for host in hosts:
            podman("exec", host.container, "sh", "-c", fault.mend)


def _elsewhere(watch: steady.Watch, cloud: str) -> bool:
    return len(watch.met) >= SETTLED and cloud not in watch.met[-SETTLED:]


def _only(watch: steady.Watch, cloud: str) -> bool:
    return len(watch.met) >= SETTLED and set(watch.met[-SETTLED:]) == {cloud}


def _serving(stage: Stage) -> str:
    """The cloud that everybody's requests go to, by what control decided; empty while it is more than one."""
    clouds = _clouds(control.routes(stage, SERVICE))
    return clouds.pop() if len(clouds) == 1 else ""


def _clouds(rows: Iterable[dict[str, Any]]) -> set[str]:
    return {str(row["cloud"]) for row in rows if row["share"]}


def _lossless(words: str, watches: Sequence[steady.Watch], before: Sequence[int]) -> Shown:
    clouds = {"aws", "gcp", "azure"}
    met = [word for watch, at in zip(watches, before, strict=True) for word in watch.met[at:]]
    failed = [word for word in met if word not in clouds]
    came = f"{len(failed)} failed of {len(met)} requests" + (
        f" ({', '.join(sorted(set(failed)))})" if failed else ""
    )
    return Shown(f"no request fails {words}", came, bool(met) and not failed)


DEMO = Demo("failover", "a backend cloud dies, browns out, slows down, loses packets, gets dear", STORY, play)
