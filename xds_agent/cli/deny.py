"""`xds-agent deny`: the valve at 3 a.m."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.errors import CliError


def deny(
    prefix: Annotated[str | None, typer.Argument(help="Network, such as 203.0.113.0/24.")] = None,
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "1h",
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the audit.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="End it before its time.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it contains hosts, backends or operators.")
    ] = False,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Drop a network's packets on every host with a datapath, at once, for a time; without an argument, list.

    Run on a control host. It is audited, ends by itself (on the hosts too, should control be gone by then),
    and stands in `status` as drift from the inventory: what is to stay belongs under `protection.deny`.
    The same network again gets the new time in place of the old.

    [dim]Examples:[/dim]
      xds-agent deny 203.0.113.0/24 --for 2h --reason INC-2207
      xds-agent deny 203.0.113.0/24 --lift
    """
    control = Control(socket)
    if prefix is None:
        answer = control.get("/v1/denials")
        rows = [
            (one["network"], output.moment(one["until"]), one["author"], one["reason"])
            for one in answer["denials"]
        ]
        if as_json:
            output.show_json(answer)
        elif rows:
            output.show_table(("NETWORK", "UNTIL (UTC)", "AUTHOR", "REASON"), rows)
        else:
            typer.echo("nothing is denied by hand")
        return
    from xds_agent.cli.inventory import author

    seconds = 0.0 if lift else _seconds(duration)
    body = {"network": prefix, "for_s": seconds, "author": author(), "reason": reason, "force": force}
    answer = control.post("/v1/denials", body)
    if as_json:
        output.show_json(answer)
    elif lift:
        typer.echo(
            f"{prefix} is no longer denied" if answer["lifted"] else f"{prefix} was not denied by hand"
        )
    else:
        was = f" (was until {output.moment(answer['was_until'])} UTC)" if answer.get("was_until") else ""
        typer.echo(f"{answer['denied']} is denied until {output.moment(answer['until'])} UTC{was}")
    if not lift and _within(prefix):
        output.show_notes([f"{prefix} is an address within {answer['denied']}: all of that is denied"])


def _within(prefix: str) -> bool:
    """Whether it names an address and not the network around it, as 10.0.0.1/24 does."""
    written = ipaddress.ip_interface(prefix)
    return written.ip != written.network.network_address


def _seconds(text: str) -> float:
    from pydantic_core import PydanticCustomError

    from xds_agent.model.quantities import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except PydanticCustomError as error:
        raise CliError(f"--for: {error.message()}", "write 30m, 2h or 1d") from error
