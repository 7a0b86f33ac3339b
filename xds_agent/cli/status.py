"""Commands about the proxies: status, and what a proxy's Envoy holds against what control believes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import click
import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.errors import CHANGES, FAILED, CliError

WATCH_S = 2.0


def status(
    node: Annotated[str | None, typer.Argument(metavar="[PROXY]", help="Only this proxy.")] = None,
    resources: Annotated[
        bool, typer.Option("--resources", help="Also list every resource the proxy is to hold.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every 2 s, until Ctrl-C.")
    ] = False,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Show every proxy: what it should hold, what it holds, where it stands in a change, and its last error.

    PHASE says where a proxy stands: which wave of a change, left out and why, draining, on its own.
    Notes below the table: networks denied by hand, and what of the inventory is not acted on.
    Exit: 0 every connected proxy is up to date, 1 one is refusing or control is in trouble, 3 no control.

    [dim]Examples:[/dim]
      xds-agent status
      xds-agent status --watch
      xds-agent status edge-aws1 --resources
      xds-agent status --json | jq '.nodes[] | select(.state != "active")'
    """
    if resources and node is None:
        raise CliError("--resources needs a proxy", "xds-agent status edge-aws1 --resources")
    control = Control(socket)
    if not watch:
        answer = _asked(control, node)
        _show(answer, node, resources=resources, as_json=as_json)
        if _bad(answer):
            raise typer.Exit(FAILED)
        return
    try:
        while True:
            answer = _asked(control, node)
            if sys.stdout.isatty() and not as_json:
                click.clear()
            _show(answer, node, resources=resources, as_json=as_json)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return


def _asked(control: Control, node: str | None) -> dict[str, Any]:
    return control.get("/v1/status" if node is None else f"/v1/nodes/{quote(node, safe='')}")


def _bad(answer: dict[str, Any]) -> bool:
    nodes = answer["nodes"].values() if "nodes" in answer else [answer]
    return any(one.get("state") == "refused" for one in nodes) or bool(answer.get("trouble"))


def _show(answer: dict[str, Any], node: str | None, *, resources: bool, as_json: bool) -> None:
    if as_json:
        if node is not None and not resources:
            answer = {key: value for key, value in answer.items() if key != "resources"}
        output.show_json(answer)
    elif node is None:
        _status(answer)
    else:
        _node(node, answer, resources=resources)


def _status(answer: dict[str, Any]) -> None:
    live = answer.get("revision")
    name = answer.get("name", "control")
    if live:
        words = f"revision {live['number']} ({live['revision']}) of {output.moment(live.get('created'))} UTC"
        who, what = live.get("author") or "unknown", live.get("summary") or ""
        typer.echo(f"{name}: {words} by {who}: {what}")
    else:
        typer.echo(f"{name}: nothing is live yet; run playbooks/routes.yml")
    if answer.get("trouble"):
        output.show_error(str(answer["trouble"]))
    for one in answer.get("skipped", ()):
        where = f"; {output.place(one['origin'])}" if one.get("origin") else ""
        typer.echo(f"{one['path']} is left out until it is mended: {one['words']}{where}")
    if answer.get("behind"):
        typer.echo(answer["behind"]["words"])
    if answer.get("applying"):
        typer.echo(f"{answer['applying']} is applying a change")
    rollout = answer.get("rollout")
    if rollout:
        count = len(rollout["waves"])
        typer.echo(f"revision {rollout['number']}: wave {rollout['wave']} of {count}, {rollout['phase']}")
    nodes = answer.get("nodes", {})
    if nodes:
        _table({name: nodes[name] for name in sorted(nodes)})
    said = (answer.get("behind") or {}).get("words")
    for note in answer.get("notes", ()):
        # On stdout, unlike other notes: what is in force beside the inventory is part of what was asked.
        if note != said:
            typer.echo(f"note: {note}")


def _table(nodes: dict[str, dict[str, Any]]) -> None:
    headings = (
        "PROXY",
        "ROLES",
        "CLOUD",
        "STATE",
        "PHASE",
        "WANTED",
        "ACTIVE",
        "SINCE",
        "CERTIFICATE UNTIL",
        "ALONE UNTIL",
        "LAST ERROR",
    )
    output.show_table(headings, [_node_row(name, node) for name, node in nodes.items()])


def _node_row(name: str, node: dict[str, Any]) -> tuple[object, ...]:
    notes = [node.get("phase"), f"in maintenance {node['maintenance']}" if node.get("maintenance") else ""]
    return (
        name,
        ",".join(node.get("roles", ())),
        node.get("cloud"),
        node.get("state"),
        ", ".join(note for note in notes if note),
        node.get("wanted"),
        node.get("revision"),
        output.moment(node.get("since") or node.get("last_seen")),
        output.moment(node.get("certificate_until")),
        output.moment(node.get("survives_until")),
        node.get("error"),
    )


def _node(name: str, answer: dict[str, Any], *, resources: bool) -> None:
    _table({name: answer})
    facts = answer.get("facts") or {}
    known = [f"{key} {facts[key]}" for key in ("agent", "envoy", "kernel", "distribution") if facts.get(key)]
    if known:
        typer.echo(", ".join(known))
    if not resources:
        return
    rows = []
    for one in answer.get("resources", ()):
        source = ", ".join(part for part in (one.get("path"), output.place(one.get("origin"))) if part)
        rows.append((one["type"], one["name"], one["version"], source))
    output.show_table(("TYPE", "NAME", "VERSION", "FROM"), rows)


def is_proxy(path: Path) -> bool:
    """Whether what `diff` was given can only be a proxy's name."""
    return len(path.parts) == 1 and path.suffix not in (".json", ".yml", ".yaml") and not path.exists()


def diff_proxy(name: str, socket: Path, *, as_json: bool) -> None:
    """`xds-agent diff PROXY`."""
    try:
        answer = Control(socket).get(f"/v1/nodes/{quote(name, safe='')}/diff")
    except CliError as error:
        remedy = error.remedy
        if "no proxy" in error.words:
            remedy += "; for an inventory name an existing folder or file"
        raise CliError(error.words, remedy, FAILED) from error
    differing = answer.get("differences", [])
    if as_json:
        output.show_json(answer)
    elif not differing:
        typer.echo(f"{name}: its Envoy holds just what control believes (revision {answer.get('wanted')})")
    else:
        typer.secho(f"{name}:", bold=True)
        for one in differing:
            typer.echo(f"  {one['type']} {one['name']}: {one['text']}")
    if differing:
        raise typer.Exit(CHANGES)
