"""Commands about what is live: history, explain, rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import ANSWER_S, Control
from xds_agent.cli.errors import FAILED, CliError


def history(
    number: Annotated[int | None, typer.Argument(metavar="[NUMBER]", help="Only this revision.")] = None,
    words: Annotated[bool, typer.Option("--diff", help="Also say what each revision changed.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many revisions.")] = 20,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """List revisions, newest first: who, when, why, and how it went.

    [dim]Examples:[/dim]
      xds-agent history
      xds-agent history 41 --diff
      xds-agent history -n 1 --json | jq -r '.revisions[0].lines[].text'
    """
    control = Control(socket)
    if number is None:
        answer = control.get("/v1/history", {"limit": limit})
    else:
        one = control.get(f"/v1/revisions/{number}")
        answer = {"revisions": [{key: value for key, value in one.items() if key != "document"}]}
    if as_json:
        output.show_json(answer)
        return
    rows = answer.get("revisions", [])
    if words:
        for row in rows:
            _revision(row)
        return
    if not rows:
        typer.echo("there is no revision yet; run playbooks/routes.yml")
        return
    headings = ("NUMBER", "WHEN (UTC)", "AUTHOR", "OUTCOME", "REASON", "COMMIT", "WHAT")
    output.show_table(headings, [_revision_row(row) for row in rows])


def _revision(row: dict[str, Any]) -> None:
    """One revision and the words of its change."""
    head = f"revision {row.get('number')}: {row.get('outcome')}, {output.moment(row.get('created'))} UTC"
    why = f": {row['reason']}" if row.get("reason") else ""
    commit = f", commit {row['commit']}" if row.get("commit") else ""
    typer.secho(f"{head}, by {row.get('author') or 'unknown'}{commit}{why}", bold=True)
    if row.get("words"):
        typer.echo(f"  {row['words']}")
    output.show_changes(row)


def _revision_row(row: dict[str, Any]) -> tuple[object, ...]:
    what = row.get("words") or row.get("summary")
    when = output.moment(row.get("created"))
    head, _, edited = str(row.get("commit") or "").partition(" ")
    commit = head[:12] + (f" {edited}" if edited else "")
    return (row.get("number"), when, row.get("author"), row.get("outcome"), row.get("reason"), commit, what)


def explain(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="https://shop.example.com/api, grpc://..., wss://..., tcp://edge:7000"
        ),
    ],
    proxy: Annotated[str | None, typer.Option("--proxy", help="Only this proxy.")] = None,
    method: Annotated[str, typer.Option("--method", "-X", help="Method of the request.")] = "GET",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="Header 'name: value'. Repeatable.")
    ] = None,
    client_certificate: Annotated[
        bool, typer.Option("--client-cert", help="The client shows a certificate of the right authority.")
    ] = False,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Say what a request would meet, from listener to endpoints, and which inventory lines say so.

    Nothing is sent. It is read from the very configuration the proxies hold, with Envoy's own matching rules.

    [dim]Examples:[/dim]
      xds-agent explain https://shop.example.com/api/items
      xds-agent explain https://partners.example.com/ --client-cert
      xds-agent explain https://shop.example.com/ -H 'x-beta: yes' --proxy edge-aws1
      xds-agent explain grpc://grpc.example.com/shop.Cart/Get
      xds-agent explain tcp://edge:7000
    """
    headers = [_header(one) for one in header or ()]
    _check_url(url)
    query = {"url": url, "host": proxy, "method": method, "header": headers}
    answer = Control(socket).get("/v1/explain", {**query, "client_certificate": int(client_certificate)})
    if as_json:
        output.show_json(answer)
        return
    explanations = answer.get("explanations", [])
    if not explanations:
        typer.echo("no proxy listens on anything yet; xds-agent status shows them")
    for one in explanations:
        _explanation(one)
    for name, words in answer.get("pending", {}).items():
        typer.secho(f"{name} is {words}", fg=typer.colors.YELLOW)


def _check_url(url: str) -> None:
    """Says what is wrong with the URL before anybody is asked."""
    from xds_agent.explain.target import BadUrl, target_of
    from xds_agent.model import Ports

    try:
        target_of(url, Ports())
    except BadUrl as error:
        raise CliError(str(error)) from error


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CliError(f"--header '{text}' is no header", "write it as 'name: value'")
    return f"{name.strip().lower()}:{value.strip()}"


def _explanation(one: dict[str, Any]) -> None:
    typer.secho(f"{', '.join(one['proxies'])}:", bold=True)
    typer.echo(f"  {one['request']}: {one['sentence']}")
    for step in one.get("steps", ()):
        text = f" ({step['text']})" if step.get("text") else ""
        source = ", ".join(part for part in (step.get("path"), output.place(step.get("origin"))) if part)
        typer.echo(f"    {step['kind']:<9} {step['name']}{text}" + (f"  <- {source}" if source else ""))
    for backend in one.get("backends", ()):
        of = f" of {backend['cluster']}" if backend.get("cluster") else ""
        notes = [f"priority {backend['priority']}", f"weight {backend['weight']}"]
        notes += [part for part in (backend.get("place"), backend.get("health")) if part]
        typer.echo(f"    endpoint  {backend['address']}{of} ({', '.join(notes)})")


def rollback(
    number: Annotated[int, typer.Argument(help="Revision to return to; `xds-agent history` lists them.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the history.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what the shadow refuses, go on with the rest.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the proxies.")
    ] = 60.0,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Bring an earlier revision back, as a new one, and wait until the proxies have it.

    The inventory is not touched: correct it too, or the next run brings the fault back.
    Exit: 0 live everywhere it is connected, 1 refused or not acknowledged in time, 3 no control.

    [dim]Examples:[/dim]
      xds-agent rollback 41 --dry-run
      xds-agent rollback 41 --reason INC-2207
      xds-agent rollback 41 --skip-bad      what this Envoy refuses of it is left out, and named
    """
    from xds_agent.cli.inventory import author

    body = {"number": number, "author": author(), "reason": reason, "dry_run": dry_run, "timeout_s": timeout}
    if skip_bad:
        body["skip_bad"] = True
    answer = Control(socket).post("/v1/rollback", body, timeout_s=timeout + ANSWER_S)
    if as_json:
        output.show_json(answer)
    else:
        output.show_changes(answer)
        _outcome(answer)
    states = {node.get("state") for node in answer.get("nodes", {}).values()}
    if answer.get("outcome") == "refused" or (not dry_run and "pending" in states):
        raise typer.Exit(FAILED)


def _outcome(answer: dict[str, Any]) -> None:
    if answer.get("outcome") == "refused":
        output.show_error(f"the revision was refused; revision {answer.get('reverted_to')} is live again")
        output.show_problems(answer.get("problems", ()))
    elif answer.get("outcome") == "live":
        waiting = sorted(name for name, node in answer["nodes"].items() if node.get("state") != "active")
        tail = f"; not yet on {', '.join(waiting)}" if waiting else ""
        typer.echo(f"revision {answer.get('number')} is live{tail}")
