"""Moves routes of a cloud's route tables to a gateway that lives, when the one they point at does not.

Started by marchproxy-interconnect-failover.service on control hosts, with /etc/marchproxy/failover.json.
Every second each gateway is asked which networks it reaches (role `interconnect`, TCP 51820). A route is left
as it is while its gateway reaches the network; after three silences it goes to the first that does. What
the tables say counts, not memory: several control hosts, and changes from outside, come to the same end.
AWS is asked through boto3 with the host's own identity; other routers by a command that the inventory names.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PROBE_EVERY_S, PROBE_TIMEOUT_S = 1.0, 1.0
DEAD_AFTER = 3
COMMAND_S = 30
# So many rounds after it was read, a table is read again; after a refusal it is left alone for as many.
READ_ROUNDS, REFUSED_ROUNDS = 10, 5


@dataclass(frozen=True)
class Gateway:
    """A host that routes may point at."""

    name: str
    interface: str
    address: str


class Router(Protocol):
    """Whoever holds route tables. What it refuses is an exception with its own words."""

    def read(self, table: str) -> Mapping[str, str]:
        """Range -> interface that it leads to now."""
        ...

    def move(self, table: str, range_: str, gateway: Gateway) -> None:
        """Point one route at a gateway."""
        ...


@dataclass
class Tables:
    """Route tables of one region."""

    tables: tuple[str, ...]
    networks: Mapping[str, str]
    """Range -> the network it belongs to, by which gateways name it; empty where nobody knows."""
    gateways: tuple[Gateway, ...]
    router: Router
    silences: dict[tuple[str, str], int] = field(default_factory=dict)
    """(gateway's address, range) -> rounds in a row in which it did not lead there."""
    present: dict[tuple[str, str], str] = field(default_factory=dict)
    """(table, range) -> interface, as the tables said last."""
    chosen: dict[tuple[str, str], Gateway] = field(default_factory=dict)
    """(table, range) -> where it was pointed last by us: a router that cannot be asked is told so again."""
    age: int = READ_ROUNDS
    pause: int = 0

    def seen(self, answers: Mapping[str, Mapping[str, Any] | None]) -> None:
        """One round of probes: gateway's address -> networks it reaches, or None if it was silent."""
        for gateway in self.gateways:
            reached = answers.get(gateway.address)
            for range_, network in self.networks.items():
                good = reached is not None and bool(
                    reached.get(network) if network else any(reached.values())
                )
                key = (gateway.address, range_)
                self.silences[key] = 0 if good else self.silences.get(key, DEAD_AFTER) + 1

    def living(self, range_: str) -> list[Gateway]:
        """Gateways that lead there, the first choice first."""
        return [
            one for one in self.gateways if self.silences.get((one.address, range_), DEAD_AFTER) < DEAD_AFTER
        ]

    def settle(self) -> None:
        """Read the tables when it is time, and point what leads nowhere at a gateway that lives."""
        if self.pause:
            self.pause -= 1
            return
        self.age += 1
        if self.age >= READ_ROUNDS or self._lost():
            self._read()
            for table, range_ in self._lost():
                self._move(table, range_)

    def _read(self) -> None:
        for table in self.tables:
            try:
                found = self.router.read(table)
            except Exception as refusal:  # whatever boto3 raises, the other tables are served
                self._refused(table, refusal)
                continue
            self.present |= {(table, range_): found.get(range_, "") for range_ in self.networks}
        self.age = 0

    def _lost(self) -> list[tuple[str, str]]:
        """Routes that do not lead to a living gateway, while there is one."""
        lost = []
        for table in self.tables:
            for range_ in self.networks:
                good = {one.interface for one in self.living(range_)}
                if good and self.present.get((table, range_)) not in good:
                    lost.append((table, range_))
        return lost

    def _move(self, table: str, range_: str) -> None:
        before, living = self.chosen.get((table, range_)), self.living(range_)
        wanted = before if before in living else living[0]
        try:
            self.router.move(table, range_, wanted)
        except Exception as refusal:
            self._refused(f"{table} {range_} -> {wanted.name}", refusal)
            return
        if (old := self.present.get((table, range_))) or wanted != before:
            print(
                f"{table} {range_}: {old or (before.name if before else 'nowhere')} -> {wanted.name}",
                flush=True,
            )
        self.present[table, range_] = wanted.interface
        self.chosen[table, range_] = wanted

    def _refused(self, what: str, refusal: Exception) -> None:
        print(f"{what}: refused: {refusal}", file=sys.stderr, flush=True)
        self.pause = REFUSED_ROUNDS


class Aws:
    """EC2 of one region, asked as the instance's own identity."""

    def __init__(self, region: str, endpoint: str | None) -> None:
        self._region, self._endpoint = region, endpoint
        self._client: Any = None

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        """A client; after a refusal a new one, which looks for keys again (metadata may be late at boot)."""
        try:
            if self._client is None:
                self._client = self._connected()
            yield self._client
        except Exception:
            self._client = None
            raise

    def _connected(self) -> Any:
        import boto3
        from botocore.config import Config

        # A call that hangs is a failover that does not come.
        limits = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
        session = boto3.session.Session(region_name=self._region)
        return session.client("ec2", endpoint_url=self._endpoint, config=limits)

    def read(self, table: str) -> Mapping[str, str]:
        with self._asked() as ec2:
            [found] = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"]
        return {
            route["DestinationCidrBlock"]: route.get("NetworkInterfaceId", "")
            for route in found["Routes"]
            if "DestinationCidrBlock" in route
        }

    def move(self, table: str, range_: str, gateway: Gateway) -> None:
        with self._asked() as ec2:
            ec2.replace_route(
                RouteTableId=table, DestinationCidrBlock=range_, NetworkInterfaceId=gateway.interface
            )


class Command:
    """COMMAND TABLE RANGE GATEWAY ADDRESS points a route elsewhere."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def read(self, table: str) -> Mapping[str, str]:
        """It cannot be asked: at every reading time each route is set anew."""
        return {}

    def move(self, table: str, range_: str, gateway: Gateway) -> None:
        words = [*self._command, table, range_, gateway.name, gateway.address]
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip() or f"exit code {done.returncode}")


def _router(one: dict[str, Any], config: dict[str, Any]) -> Router:
    if one["cloud"] == "aws":
        return Aws(one["region"], config.get("endpoint") or None)
    return Command(config["command"])


def tables_of(config: dict[str, Any]) -> list[Tables]:
    networks = config.get("networks") or {}
    return [
        Tables(
            tables=tuple(one["tables"]),
            networks={range_: networks.get(range_, "") for range_ in one["ranges"]},
            gateways=tuple(Gateway(**gateway) for gateway in one["gateways"]),
            router=_router(one, config),
        )
        for one in config["tables"]
    ]


def reached_by(address: str, port: int) -> Mapping[str, Any] | None:
    """Networks that a gateway reaches, by its own words; None if it says nothing."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=PROBE_TIMEOUT_S) as answer:
            networks = json.load(answer)["networks"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    return networks if isinstance(networks, dict) else None


def watch(tables: Tables, port: int) -> None:
    """Probe and settle every second, for ever."""
    addresses = [gateway.address for gateway in tables.gateways]
    with ThreadPoolExecutor(max_workers=max(1, len(addresses))) as pool:
        while True:
            answers = pool.map(lambda address: reached_by(address, port), addresses)
            tables.seen(dict(zip(addresses, answers, strict=True)))
            tables.settle()
            time.sleep(PROBE_EVERY_S)


def main(file: Path) -> None:
    config = json.loads(file.read_text())
    # A region whose cloud does not answer keeps no other waiting.
    watchers = [
        threading.Thread(target=watch, args=(one, config["health_port"])) for one in tables_of(config)
    ]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(Path(sys.argv[1]))
