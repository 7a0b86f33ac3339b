"""Commands that take a cloud or a host out for the moment, and bring it back: evacuate, readmit."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.errors import CliError
from xds_agent.cli.inventory import author

Cloud = Annotated[str | None, typer.Option("--cloud", help="Cloud taken out.")]
Region = Annotated[str | None, typer.Option("--region", help="Region taken out.")]
Zone = Annotated[str | None, typer.Option("--zone", help="Zone taken out.")]
Host = Annotated[
    str | None, typer.Option("--host", help="Backend host taken out, as the inventory names it.")
]


def evacuate(
    cloud: Cloud = None,
    region: Region = None,
    zone: Zone = None,
    host: Host = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; goes to the audit.")] = "",
    minutes: Annotated[
        float, typer.Option("--for", min=1, help="Minutes until it comes back by itself.")
    ] = 60.0,
    allow_outage: Annotated[
        list[str] | None, typer.Option("--allow-outage", help="Service that may be down. Repeatable.")
    ] = None,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Take backends of a cloud, region, zone or host out of service without losing a request.

    They get no new request from then on; when the time is over they come back by the ramp of each service's
    `steering.failback`. Services that live only there are named and refused. Without options: what is out.
    Exit: 0, 1 refused, 3 no control.

    [dim]Examples:[/dim]
      xds-agent evacuate --cloud gcp --for 30 --reason CHG-812
      xds-agent evacuate --host backend-aws1 --allow-outage batch
      xds-agent evacuate
    """
    control = Control(socket)
    if not any((cloud, region, zone, host)):
        _show(control.get("/v1/maintenance"), as_json=as_json)
        return
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    body = {
        "cloud": cloud, "region": region, "zone": zone, "host": host, "until": until.isoformat(),
        "reason": reason or "evacuated by hand", "allow_outage": allow_outage or [], "author": author(),
    }  # fmt: skip
    answer = control.post("/v1/maintenance", {key: value for key, value in body.items() if value is not None})
    _show(answer, as_json=as_json)


def readmit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `xds-agent evacuate` lists it: cloud=gcp.")],
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """End what `evacuate` began, now. Windows of the inventory are ended by an edit.

    [dim]Examples:[/dim]
      xds-agent readmit cloud=gcp
    """
    if "=" not in name:
        raise CliError(f"'{name}' names nothing", "write it as `xds-agent evacuate` lists it: cloud=gcp")
    _show(Control(socket).post("/v1/maintenance/end", {"name": name, "author": author()}), as_json=as_json)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.show_json(answer)
        return
    rows = answer.get("windows", [])
    if not rows:
        typer.echo("nothing is evacuated")
        return
    output.show_table(
        ("NAME", "UNTIL (UTC)", "REASON"), [(r["name"], output.moment(r["until"]), r["reason"]) for r in rows]
    )
