"""Commands about one host: revoke its certificate (on control), drain it (on the host itself)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.daemons import NODE_YML
from xds_agent.cli.errors import FAILED, CliError

if TYPE_CHECKING:
    from xds_agent.node.admin import Admin

_LOOK_S = 0.5


def revoke(
    host: Annotated[str, typer.Argument(help="Host whose certificates are no longer to count.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the audit.")] = "",
    serial: Annotated[
        list[str] | None, typer.Option("--serial", help="Only this serial number (hexadecimal). Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be revoked.")] = False,
    on_behalf_of: Annotated[
        str, typer.Option("--author", metavar="WHO", help="Who asks, where this is run for somebody else.")
    ] = "",
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Put a host's certificates on the revocation list: it is cut off within seconds, and cannot renew.

    It keeps serving what it has. Let it in again with a new key:
    site.yml --tags pki -e pki_renew_keys=true --limit control,HOST.

    [dim]Examples:[/dim]
      xds-agent revoke edge-aws1 --reason INC-2207
      xds-agent revoke edge-aws1 --serial 4F:21:0A
    """
    from xds_agent.cli.inventory import author

    body = {"host": host, "reason": reason, "serials": serial or [], "dry_run": dry_run}
    body["author"] = on_behalf_of or author()
    answer = Control(socket).post("/v1/revoke", body)
    if as_json:
        output.show_json(answer)
        return
    would = "would be revoked" if dry_run else "revoked"
    for one in answer.get("revoked", ()):
        typer.echo(f"{host}: certificate {one} {would}")
    for one in answer.get("already", ()):
        typer.echo(f"{host}: certificate {one} was revoked before")


def drain(
    back: Annotated[bool, typer.Option("--back", help="Let it take traffic again.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for open connections to end.")
    ] = 60.0,
    config: Annotated[Path, typer.Option("--config", help="node.yml of this host.")] = NODE_YML,
    as_json: options.Json = False,
) -> None:
    """Take this proxy out of service gently, or let it come back.

    /healthz and Envoy's /ready answer 503, so that balancers before it look elsewhere; Envoy asks its clients
    to close after their request. Nothing is cut. Control leaves it out of the waves of changes meanwhile.
    Exit: 0 no connection is open any more (or back in service), 1 some still are when the time is over.

    [dim]Examples:[/dim]
      xds-agent drain --wait 120
      xds-agent drain --back
    """
    from xds_agent.node.admin import Admin, AdminError
    from xds_agent.node.config import ConfigError, load_config

    try:
        admin = Admin(load_config(config).envoy.admin_socket)
        found = asyncio.run(_drain(admin, back=back, wait_s=wait))
    except (ConfigError, AdminError) as error:
        raise CliError(str(error), "see: systemctl status envoy") from error
    if as_json:
        output.show_json(found)
    elif back:
        typer.echo(f"in service again: Envoy is {found['envoy']}")
    else:
        typer.echo(f"Envoy is {found['envoy']}; {found['open']} connections are open")
    if not back and found["open"]:
        raise typer.Exit(FAILED)


async def _drain(admin: Admin, *, back: bool, wait_s: float) -> dict[str, Any]:
    from xds_agent.node.questions import OPEN_CONNECTIONS, by_listener

    before = await admin.state()
    await admin.post("/healthcheck/ok" if back else "/healthcheck/fail")
    deadline = time.monotonic() + wait_s
    while True:
        opened = sum(by_listener(await admin.gauges(OPEN_CONNECTIONS)).values())
        if back or not opened or time.monotonic() >= deadline:
            state = await admin.state()
            return {"envoy": state, "open": opened, "changed": state != before}
        await asyncio.sleep(_LOOK_S)
