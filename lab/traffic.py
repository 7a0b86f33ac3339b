"""Requests through the site's real proxies, and the table of what each met."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from websockets.exceptions import WebSocketException

from lab import balancers, checks, datapath, failover, names, wires
from lab.checks import Check, Met, Site
from lab.errors import LabError
from lab.place import HostSpec, Place

FAILOVER = Check(
    "failover of a cloud", f"{failover.NEXT_CLOUD} answers, none lost", lambda *_: Met("", False)
)
# The site's root, which the role pki makes on the controller.
TRUST = "pki/root.crt"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was asked of which proxy, what should come, what came."""

    check: str
    proxy: str
    expected: str
    met: str
    as_expected: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(here: Place, say: Callable[[str], None], *, only: tuple[str, ...] = ()) -> list[Row]:
    """Run the checks (those whose name holds a word of ``only``, if given) and return their rows."""
    site = as_clients(here)
    proxies = here.in_group("ingress")
    rows = []
    for check in (check for check in checks.EVERY_PROXY if _asked(check, only)):
        say(f"asking {len(proxies)} proxies: {check.name}")
        rows += [_row(check, proxy, _ask(check, proxy, site)) for proxy in proxies]
    # A vip beside a host's own address is nothing that a cloud would bring to the host.
    edges = () if here.from_clouds else here.in_group("l4")
    of_datapath = [check for check in datapath.EVERY_EDGE if edges and _asked(check, only)]
    if of_datapath:
        wires.ensure(here, say)
    for check in of_datapath:
        say(f"asking {len(edges)} edges: {check.name}")
        rows += [_row(check, edge, _ask(check, edge, site)) for edge in edges]
    for check in (check for check in balancers.EVERY_ADDRESS if here.balancers and _asked(check, only)):
        say(f"asking {len(here.balancers)} addresses of load balancers: {check.name}")
        rows += [_row(check, one, _ask(check, one, site)) for one in here.balancers]
    if here.balancers and _asked(balancers.DEAD_EDGE, only):
        met = balancers.dead_edges(site, say)
        rows += [_row(balancers.DEAD_EDGE, one, met[one.name]) for one in here.balancers if one.name in met]
    if here.balancers and any(_asked(one, only) for one in (names.EVERY_PLACE, names.LOST_REGION)):
        asked = names.measure(site, say, lambda check: _asked(check, only))
        rows += [Row(one.name, who, one.expected, met.words, met.as_expected) for one, who, met in asked]
    if _asked(FAILOVER, only):
        met = failover.measure(proxies, site, say)
        rows += [_row(FAILOVER, proxy, met[proxy.name]) for proxy in proxies]
    return rows


def as_clients(here: Place) -> Site:
    """What clients need to know of the lab. LabError before the site was provisioned."""
    trust = here.state / TRUST
    if not trust.exists():
        raise LabError(
            f"there is no {trust}: the site has no authority yet", "script/lab up provisions the site"
        )
    return Site(here, trust)


def _asked(check: Check, only: tuple[str, ...]) -> bool:
    return not only or any(word.lower() in check.name.lower() for word in only)


def _row(check: Check, proxy: HostSpec, met: Met) -> Row:
    return Row(check.name, proxy.name, check.expected, met.words, met.as_expected)


def _ask(check: Check, proxy: HostSpec, site: Site) -> Met:
    try:
        return check.ask(proxy, site)
    # What the network or the proxy does to a request is a row of the table, not the end of it.
    except (OSError, http.client.HTTPException, WebSocketException, ValueError) as problem:
        return Met(f"{type(problem).__name__}: {problem}", False)


def show(rows: list[Row], console: Console) -> None:
    """Print the table, checks that every proxy met as expected in one line each, and a verdict."""
    table = Table("check", "proxy", "expected", "met", "")
    for check in dict.fromkeys(row.check for row in rows):
        of_check = [row for row in rows if row.check == check]
        if len(of_check) > 1 and all(row.as_expected for row in of_check):
            words = list(dict.fromkeys(row.met for row in of_check))
            met = words[0] if len(words) == 1 else "\n".join(f"{row.proxy}: {row.met}" for row in of_check)
            _line(table, Row(check, f"all {len(of_check)}", of_check[0].expected, met, True))
        else:
            for row in of_check:
                _line(table, row)
    console.print(table)
    wrong = sum(not row.as_expected for row in rows)
    verdict = "[green]every row as expected[/]" if not wrong else f"[red]{wrong} not as expected[/]"
    console.print(f"{len(rows)} rows, {verdict}")


def _line(table: Table, row: Row) -> None:
    mark = "[green]ok[/]" if row.as_expected else "[red]NOT OK[/]"
    table.add_row(row.check, row.proxy, row.expected, row.met.replace("[", r"\["), mark)
