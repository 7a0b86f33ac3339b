"""The command `xds-agent`."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from xds_agent.cli import (
    backup,
    capture,
    daemons,
    datapath,
    deny,
    evacuate,
    fleet,
    hosts,
    inventory,
    output,
    packets,
    review,
    routes,
    status,
)
from xds_agent.cli.errors import FAILED, CliError

_TRACEBACK = "XDS_AGENT_TRACEBACK"
_USAGE = 2
_EPILOG = (
    "Exit codes: 0 done; 1 invalid, refused or wrongly called; 3 control cannot be reached. "
    "`diff`: 0 no difference, 2 differences, 1 any error."
)


class _Group(TyperGroup):
    """Ends every command with a sentence and its exit code, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            output.show_error(error.words, error.remedy)
            raise typer.Exit(error.code) from error
        except Exception as error:
            # What carries an exit code is typer's own way to end; a closed pipe is nobody's mistake.
            if hasattr(error, "exit_code") or isinstance(error, BrokenPipeError | typer.Abort):
                raise
            if os.environ.get(_TRACEBACK):
                raise
            words = f"something went wrong inside xds-agent: {type(error).__name__}: {error}"
            output.show_error(words, f"please report it with what {_TRACEBACK}=1 xds-agent ... prints")
            raise typer.Exit(FAILED) from error


app = typer.Typer(
    name="xds-agent",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    help="The control plane and node agent of MarchProxy, and the questions one may ask it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from xds_agent import __version__

        typer.echo(f"xds-agent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


for _panel, _commands in {
    "Inventory": (inventory.validate, inventory.diff, inventory.schema),
    "What is live": (status.status, fleet.explain, fleet.history, fleet.rollback, deny.deny, review.live),
    "Where requests go": (routes.routes, routes.what_if, evacuate.evacuate, evacuate.readmit),
    "Of a host": (hosts.revoke, hosts.drain, backup.backup, backup.restore),
    "On a host with a datapath": (packets.explain_packet,),
    "Run by systemd": (daemons.serve, daemons.node, daemons.bootstrap, daemons.renew),
}.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
datapath.group.command()(capture.capture)
datapath.group.command()(capture.flows)
app.add_typer(datapath.group, rich_help_panel="On a host with a datapath")


def main() -> None:
    """Entry point. A wrongly called command ends with 1, since 2 is what `diff` says for differences."""
    try:
        app(prog_name="xds-agent")
    except SystemExit as end:
        # typer turns its Exit into SystemExit, so what was meant is the context of what is raised.
        if end.code == _USAGE and not isinstance(end.__context__, typer.Exit):
            sys.exit(FAILED)
        raise
