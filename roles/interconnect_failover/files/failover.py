"""Moves routes of a cloud's route tables to a gateway that lives, when the one they point at does not.

Started by marchproxy-interconnect-failover.service on control hosts, with /etc/marchproxy/failover.json.
Every second each gateway is asked whether it reaches any other network (role `interconnect`, TCP 51820). The
gateway in use stays in use while it does; after three silences the routes of the file are pointed at the
next. Nothing else is touched. AWS is asked through boto3 with the host's own identity; other tables by a
command that the inventory names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROBE_EVERY_S, PROBE_TIMEOUT_S = 1.0, 1.0
DEAD_AFTER = 3
COMMAND_S = 30
# After a refusal the cloud is left alone for so many rounds.
REFUSED_ROUNDS = 5

# Points one route at a gateway; raises an exception with the cloud's words.
Move = Callable[[str, str, "Gateway"], None]


@dataclass(frozen=True)
class Gateway:
    """A host that routes may point at."""

    name: str
    interface: str
    address: str


@dataclass
class Tables:
    """Route tables of one region, and the gateway they point at."""

    tables: tuple[str, ...]
    ranges: tuple[str, ...]
    gateways: tuple[Gateway, ...]
    move: Move
    # None until the first gateway has answered: then all routes are set once, whatever was there.
    current: Gateway | None = None
    silences: dict[str, int] = field(default_factory=dict)
    _pause: int = 0

    def seen(self, alive: dict[str, bool]) -> None:
        """One round of probes: gateway's address -> whether it leads on."""
        for address, good in alive.items():
            self.silences[address] = 0 if good else self.silences.get(address, DEAD_AFTER) + 1

    def wanted(self) -> Gateway | None:
        """Where routes should point: at the present gateway as long as it lives, else at the first alive."""
        living = [one for one in self.gateways if self.silences.get(one.address, DEAD_AFTER) < DEAD_AFTER]
        if self.current in living:
            return self.current
        return living[0] if living else self.current

    def settle(self) -> None:
        """Point every route at the wanted gateway; what the cloud refuses is tried again later."""
        wanted = self.wanted()
        if wanted is None or wanted == self.current:
            return
        if self._pause:
            self._pause -= 1
            return
        for table in self.tables:
            for range_ in self.ranges:
                try:
                    self.move(table, range_, wanted)
                except Exception as refusal:  # whatever boto3 raises, the other tables are served
                    print(
                        f"{table} {range_} -> {wanted.name}: refused: {refusal}", file=sys.stderr, flush=True
                    )
                    self._pause = REFUSED_ROUNDS
        if self._pause:
            return
        before = self.current.name if self.current else "unknown"
        print(f"{', '.join(self.tables)}: {before} -> {wanted.name}", flush=True)
        self.current = wanted


def aws(region: str) -> Move:
    import boto3

    client = boto3.client("ec2", region_name=region)

    def move(table: str, range_: str, gateway: Gateway) -> None:
        client.replace_route(
            RouteTableId=table, DestinationCidrBlock=range_, NetworkInterfaceId=gateway.interface
        )

    return move


def by_command(command: list[str]) -> Move:
    """Runs COMMAND TABLE RANGE GATEWAY ADDRESS."""

    def move(table: str, range_: str, gateway: Gateway) -> None:
        words = [*command, table, range_, gateway.name, gateway.address]
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip() or f"exit code {done.returncode}")

    return move


def tables_of(config: dict[str, Any]) -> list[Tables]:
    return [
        Tables(
            tables=tuple(one["tables"]),
            ranges=tuple(one["ranges"]),
            gateways=tuple(Gateway(**gateway) for gateway in one["gateways"]),
            move=aws(one["region"]) if one["cloud"] == "aws" else by_command(config["command"]),
        )
        for one in config["tables"]
    ]


def leads_on(address: str, port: int) -> bool:
    """Whether the gateway reaches any other network, by its own words."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=PROBE_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def watch(config: dict[str, Any], rounds: int | None = None) -> None:
    """Probe and settle every second, for ever or for so many rounds."""
    all_tables = tables_of(config)
    addresses = sorted({gateway.address for tables in all_tables for gateway in tables.gateways})
    with ThreadPoolExecutor(max_workers=max(1, len(addresses))) as pool:
        while rounds is None or rounds > 0:
            answers = pool.map(lambda address: leads_on(address, config["health_port"]), addresses)
            alive = dict(zip(addresses, answers, strict=True))
            for tables in all_tables:
                tables.seen({one.address: alive[one.address] for one in tables.gateways})
                tables.settle()
            rounds = None if rounds is None else rounds - 1
            time.sleep(PROBE_EVERY_S)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    watch(json.loads(Path(sys.argv[1]).read_text()))
