"""Four algorithms in two modes on real traffic over a WAN: shares as predicted and as counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from lab import checks, client
from lab.commands import podman
from lab.demos import control
from lab.demos.control import Shares
from lab.demos.edits import edited
from lab.demos.stage import Demo, Shown, Stage
from lab.errors import LabError
from lab.place import HostSpec
from lab.wan import running, table
from lab.wan.table import Change, Ways

STORY = """\
Puts distance between the clouds (script/lab wan: aws-gcp 30 ms, aws-azure 12 ms, gcp-azure 42 ms), and
brings eight services live: weighted, geo, latency and cost, each active-active and active-passive. All have
endpoints in gcp and azure; a gigabyte from gcp costs 0.05 USD, from azure 0.09. Then, one after another,

  1. everything is as it is,
  2. a gigabyte of gcp gets dear (0.25 USD, in the inventory),
  3. azure gets 60 ms farther from the others (script/lab wan),
  4. azure's backends die (nginx is stopped).

Before each of them `xds-agent what-if` is asked where requests would go; once control has decided, requests
go through a proxy of every cloud, and who answered is counted: every backend says where it stands. No share
may be more than 5 points from what was said (what is off is counted again, up to three times), and no
request may fail. All of it is taken back in the end.
"""
DISTANCES = (("aws", "gcp", 30), ("aws", "azure", 12), ("gcp", "azure", 42))
CLOUDS, FAILING, DEAR = ("gcp", "azure"), "azure", "gcp"
PRICES, DEAR_USD = {"gcp": 0.05, "azure": 0.09}, 0.25
FARTHER_MS = 60
ALGORITHMS = ("weighted", "geo", "latency", "cost")
MODES = ("active-active", "active-passive")
NAMES = tuple(f"steer-{algorithm}-{mode}" for algorithm in ALGORITHMS for mode in MODES)
REQUESTS, AT_ONCE = 100, 6
TOLERATED = 0.05
# What control has decided must be nearer than that, before it is counted.
DECIDED = 0.03
# Two heartbeats of the proxies and more: what they measure is trusted little by little, and tells each time.
REST_S = 25.0
# By then a backend that answers its checks again is asked again.
CHECKED_S = 10.0
ONCE_MORE = 3
Seat = tuple[str, str]
"""Place of a proxy, and a service."""


@dataclass
class Counted:
    """Who answered requests through one proxy to one service."""

    clouds: Counter[str] = field(default_factory=Counter)

    def share(self, cloud: str) -> float:
        return self.clouds[cloud] / max(1, self.clouds.total())

    @property
    def failed(self) -> int:
        return sum(count for word, count in self.clouds.items() if word not in CLOUDS)


def play(stage: Stage) -> Iterable[Shown]:
    """A row per service and scene."""
    places = _places(stage)
    with _distances(stage) as set_ways, edited(stage, "steering") as apply:
        stage.say("bringing eight services live")
        apply(_inventory(PRICES))
        stage.say("waiting until every path has been measured and nothing moves any more")
        yield from _compared(stage, "as it is", _at_rest(stage), places)

        said = control.shares(control.what_if(stage, "--price", f"{DEAR}={DEAR_USD}"))
        stage.say(f"a gigabyte of {DEAR} costs {DEAR_USD} USD")
        apply(_inventory(PRICES | {DEAR: DEAR_USD}))
        yield from _compared(stage, f"--price {DEAR}={DEAR_USD}", said, places)

        said = control.shares(control.what_if(stage, "--rtt", f"{FAILING}=+{FARTHER_MS}ms"))
        stage.say(f"{FAILING} is {FARTHER_MS} ms farther away")
        set_ways(FARTHER_MS)
        # From within azure the way to azure is no longer than before.
        away = {place: proxy for place, proxy in places.items() if not place.startswith(FAILING)}
        yield from _compared(stage, f"--rtt {FAILING}=+{FARTHER_MS}ms", said, away)

        said = control.shares(control.what_if(stage, "--cloud-down", FAILING))
        stage.say(f"{FAILING}'s backends die")
        with _dead(stage):
            yield from _compared(stage, f"--cloud-down {FAILING}", said, places)


def _compared(stage: Stage, scene: str, said: Shares, places: Mapping[str, HostSpec]) -> Iterator[Shown]:
    """A row per service, once control has decided what was said, or has not for a long time."""
    _decided(stage, said, places)
    stage.say(f"counting answers: {scene}")
    counted = _counted(stage, places, [(place, name) for name in NAMES for place in places])
    # A proxy goes round a backend that was slow to answer its checks, which on a busy machine happens.
    for _ in range(ONCE_MORE):
        off = [seat for seat, one in counted.items() if _off(said, *seat, one) > TOLERATED and not one.failed]
        if not off:
            break
        stage.say("once more: " + ", ".join(f"{name} from {place}" for place, name in off))
        time.sleep(CHECKED_S)
        _decided(stage, said, places)
        counted |= _counted(stage, places, off)
    for name in NAMES:
        found = {place: counted[place, name] for place in places}
        worst = max(_off(said, place, name, one) for place, one in found.items())
        failed = sum(one.failed for one in found.values())
        words = "; ".join(
            f"{place}: " + ", ".join(
                f"{cloud} {_part(said, place, name, cloud):.0%} said {one.share(cloud):.0%} counted"
                for cloud in CLOUDS
            )
            for place, one in found.items()
        )  # fmt: skip
        yield Shown(
            f"{name.removeprefix('steer-')}, {scene}", f"{words}; {failed} failed",
            worst <= TOLERATED and not failed,
        )  # fmt: skip


def _decided(stage: Stage, said: Shares, places: Mapping[str, HostSpec]) -> None:
    """Wait until control has decided what was said."""
    try:
        control.until(
            lambda: _worst(said, control.shares(control.routes(stage)), places) <= DECIDED, every_s=2
        )
    except LabError:
        stage.say("control did not decide what it had said")


def _counted(stage: Stage, places: Mapping[str, HostSpec], seats: Sequence[Seat]) -> dict[Seat, Counted]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        counts = pool.map(lambda seat: _count(places[seat[0]], seat[1], stage), seats)
        return dict(zip(seats, counts, strict=True))


def _part(shares: Shares, place: str, name: str, cloud: str) -> float:
    return shares.get((place, name), {}).get(cloud, 0.0)


def _off(said: Shares, place: str, name: str, counted: Counted) -> float:
    return max(abs(_part(said, place, name, cloud) - counted.share(cloud)) for cloud in CLOUDS)


def _worst(one: Shares, other: Shares, places: Mapping[str, HostSpec]) -> float:
    return max(
        abs(_part(one, place, name, cloud) - _part(other, place, name, cloud))
        for place in places for name in NAMES for cloud in CLOUDS
    )  # fmt: skip


def _count(proxy: HostSpec, name: str, stage: Stage) -> Counted:
    counted = Counted()
    with client.Connection(
        proxy.address, checks.HTTPS_PORT, sni=checks.SHOP, identity=stage.site.anonymous
    ) as connection:
        for _ in range(REQUESTS):
            answer = connection.get(f"/{name}", checks.SHOP)
            counted.clouds[answer.cloud if answer.status == 200 else str(answer.status)] += 1
    return counted


def _at_rest(stage: Stage) -> Shares:
    """What control decided, once it has measured every path and moved nothing for a while."""
    last: list[tuple[float, Shares]] = []

    def rests() -> bool:
        rows = control.routes(stage)
        mine = [row for row in rows if row["service"] in NAMES and row["priority"] is not None]
        if not mine or any(row["rtt_p50_ms"] is None or "unknown" in str(row["health"]) for row in mine):
            return False
        now = control.shares(mine)
        if not last or _differ(last[-1][1], now):
            last.append((time.monotonic(), now))
        return time.monotonic() - last[-1][0] >= REST_S

    control.until(rests, every_s=2)
    return last[-1][1]


def _differ(one: Shares, other: Shares) -> bool:
    return one.keys() != other.keys() or any(
        abs(share - other[at].get(cloud, 0.0)) > TOLERATED / 5
        for at, own in one.items() for cloud, share in own.items()
    )  # fmt: skip


def _places(stage: Stage) -> dict[str, HostSpec]:
    """Place as control names it -> one proxy there."""
    seen_from = {str(row["seen_from"]) for row in control.routes(stage)}
    proxies = {proxy.cloud: proxy for proxy in reversed(stage.place.in_group("ingress"))}
    return {place: proxies[place.split()[0]] for place in sorted(seen_from) if place.split()[0] in proxies}


@contextmanager
def _distances(stage: Stage) -> Iterator[Callable[[int], None]]:
    """A way to put azure so many milliseconds farther away; in the end distances are what they were."""
    known = running.sides(stage.place)
    before = {at: way for at, (way, _) in running.state(stage.place, known).items()}

    def farther(more_ms: int) -> None:
        ways: Ways = before
        for one, other, rtt_ms in DISTANCES:
            extra = more_ms if FAILING in (one, other) else 0
            change = Change(rtt=timedelta(milliseconds=rtt_ms + extra))
            ways = table.changed(ways, (one, other), change)
        running.apply(stage.place, ways, known)

    farther(0)
    try:
        yield farther
    finally:
        running.apply(stage.place, before, known)


@contextmanager
def _dead(stage: Stage) -> Iterator[None]:
    hosts = [host for host in stage.place.in_group("shop_backends") if host.cloud == FAILING]
    for host in hosts:
        podman("exec", host.container, "systemctl", "stop", "nginx")
    try:
        yield
    finally:
        for host in hosts:
            podman("exec", host.container, "systemctl", "start", "nginx")


def _inventory(prices: Mapping[str, float]) -> dict[str, object]:
    services, routes = [], []
    for name in NAMES:
        _, algorithm, *mode = name.split("-")
        steering: dict[str, object] = {
            "algorithm": algorithm, "mode": "-".join(mode), "order": list(CLOUDS), "hold": "1s",
            "max_shift": 100, "failback": {"after": "2s", "ramp": "2s"},
            # A path that grows longer is believed little by little: each small step is to be followed.
            "switch_threshold": 2,
        }  # fmt: skip
        if algorithm == "weighted":
            steering["weights"] = {"gcp": 3, "azure": 1}
        services.append({
            "name": name, "tenant": "retail", "endpoints": [{"group": "shop_backends", "port": 8080}],
            "health": {"path": "/healthz", "interval": "1s", "timeout": "500ms"}, "retries": 2,
            "steering": steering,
        })  # fmt: skip
        routes.append({"name": name, "domains": [checks.SHOP], "prefix": f"/{name}", "service": name})
    clouds = {cloud: {"egress_usd_per_gb": usd} for cloud, usd in prices.items()}
    return {"services": services, "routes": routes, "clouds": clouds}


DEMO = Demo(
    "steering", "four algorithms in two modes over a WAN: shares as predicted and as counted", STORY, play
)
