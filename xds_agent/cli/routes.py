"""Commands about where requests go: routes, what-if."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.errors import CliError

_HEADINGS = (
    "SERVICE", "SEEN FROM", "CLOUD", "REGION", "RTT P50", "RTT P95", "USD/GB", "HEALTH", "PRIO", "WEIGHT",
    "SHARE", "MEASURED", "SINCE", "WHY",
)  # fmt: skip

Only = Annotated[str | None, typer.Argument(metavar="[SERVICE]", help="Only this service.")]


def routes(
    service: Only = None,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Show where requests of each steered service go, from each place where proxies stand, and why.

    SHARE is what was decided, MEASURED what Envoy counted since; RTT is what nodes of that place measured.
    Exit: 0, 1 no such service, 3 no control.

    [dim]Examples:[/dim]
      xds-agent routes
      xds-agent routes shop --json | jq '.routes[] | select(.share > 0) | .why'
    """
    answer = Control(socket).get("/v1/routes", {"service": service})
    if as_json:
        output.show_json(answer)
        return
    output.show_notes(answer.get("notes", ()))
    rows = answer.get("routes", [])
    if not rows:
        typer.echo("no service is steered: one needs `steering` and endpoints in more than one region")
        return
    output.show_table(_HEADINGS, [_row(row) for row in rows])
    _show_costs("cost a day at the rate of now", answer.get("usd_per_day", {}))


def what_if(
    cloud_down: Annotated[
        str, typer.Option("--cloud-down", metavar="CLOUD", help="This cloud is gone.")
    ] = "",
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="CLOUD=USD", help="A gigabyte out of it costs this. Repeatable."),
    ] = None,
    rtt: Annotated[
        list[str] | None,
        typer.Option("--rtt", metavar="CLOUD=+80ms", help="It is so much farther away. Repeatable."),
    ] = None,
    service: Annotated[str | None, typer.Option("--service", help="Only this service.")] = None,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Say where requests would go once everything has moved, and what each cloud would have to take.

    Nothing is changed. It is decided by the very rules that decide for real, from what is measured now.
    Exit: 0, 1 wrongly asked, 3 no control.

    [dim]Examples:[/dim]
      xds-agent what-if --cloud-down gcp
      xds-agent what-if --price aws=0.12 --rtt azure=+80ms --service shop
    """
    body = {
        "cloud_down": cloud_down,
        "prices": dict(_price(one) for one in price or ()),
        "rtts_ms": dict(_rtt(one) for one in rtt or ()),
        "service": service,
    }
    if not cloud_down and not price and not rtt:
        raise CliError("nothing is supposed", "give --cloud-down, --price or --rtt")
    answer = Control(socket).post("/v1/what-if", body)
    if as_json:
        output.show_json(answer)
        return
    _show_what_if(answer)


def _show_what_if(answer: dict[str, Any]) -> None:
    output.show_notes(answer.get("notes", ()))
    for name in answer.get("alone", ()):
        output.show_error(f"{name} lives only there: it would be down")
    before = {_key(row): row for row in answer.get("before", ())}
    headings = ("SERVICE", "SEEN FROM", "CLOUD", "REGION", "SHARE NOW", "SHARE THEN", "WHY")
    rows = [
        (row["service"], row["seen_from"], row["cloud"], row["region"],
         _percent(before.get(_key(row), {}).get("share")), _percent(row["share"]), row["why"])
        for row in answer.get("routes", ())
    ]  # fmt: skip
    output.show_table(headings, rows)
    loads = [one for one in answer.get("load", ()) if one["rps"] or one["capacity_rps"]]
    for one in loads:
        most = f" of {one['capacity_rps']:g} it can take" if one["capacity_rps"] is not None else ""
        over = ": TOO MUCH" if one["over"] else ""
        typer.echo(f"{one['service']}: {one['cloud']} would get {one['rps']:g} requests a second{most}{over}")
    _show_costs("cost a day now", answer.get("usd_per_day_before", {}))
    _show_costs("cost a day then", answer.get("usd_per_day", {}))


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return row["service"], row["seen_from"], row["cloud"], row["region"]


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["service"], row["seen_from"], row["cloud"], row["region"], _ms(row["rtt_p50_ms"]),
        _ms(row["rtt_p95_ms"]), row["usd_per_gb"], row["health"], row["priority"], row["weight"],
        _percent(row["share"]), _percent(row["measured_share"]), output.moment(row["since"]), row["why"],
    )  # fmt: skip


def _show_costs(what: str, costs: dict[str, dict[str, float]]) -> None:
    if not costs:
        return
    total = sum(usd for clouds in costs.values() for usd in clouds.values())
    parts = [
        f"{name} " + ", ".join(f"{cloud} {usd:.2f}" for cloud, usd in clouds.items())
        for name, clouds in costs.items()
    ]
    typer.echo(f"{what}: {total:.2f} USD ({'; '.join(parts)})")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100.0 * share:.3g} %"


def _price(text: str) -> tuple[str, float]:
    cloud, _, value = text.partition("=")
    try:
        usd = float(value)
    except ValueError:
        usd = -1.0
    if not cloud or not 0.0 <= usd < float("inf"):
        raise CliError(f"--price '{text}' is no price", "write US dollars a gigabyte: --price aws=0.12")
    return cloud, usd


def _rtt(text: str) -> tuple[str, float]:
    cloud, _, value = text.partition("=")
    try:
        ms = float(value.removesuffix("ms"))
    except ValueError:
        ms = float("inf")
    if not cloud or abs(ms) > 60_000.0:
        raise CliError(
            f"--rtt '{text}' is no time", "write what is added, in milliseconds: --rtt azure=+80ms"
        )
    return cloud, ms
