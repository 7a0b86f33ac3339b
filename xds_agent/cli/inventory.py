"""Commands about an inventory: validate, schema, diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control, ProblemsFound
from xds_agent.cli.documents import load_document
from xds_agent.cli.errors import CHANGES, FAILED, CliError
from xds_agent.cli.review import against, markdown, markdown_problems
from xds_agent.cli.status import diff_proxy, is_proxy
from xds_agent.explain.said import plural


def validate(
    path: options.Inventory,
    vault_id: options.VaultIds = None,
    vault_password_file: options.VaultFiles = None,
    as_json: options.Json = False,
) -> None:
    """Check an inventory and name every problem at once: file:line: path: what is wrong; the fix.

    Notes say what the inventory asks for and this version does not act on yet. Exit: 0 valid, 1 not.

    [dim]Examples:[/dim]
      xds-agent validate inventories/lab
      xds-agent validate inventories/prod --vault-password-file ~/.vault
      xds-agent validate site.json --json
    """
    from xds_agent.model import ModelError, load_site
    from xds_agent.steering.budget import probe_problems
    from xds_agent.steering.site import scene_of

    document = _document(path, vault_id, vault_password_file)
    try:
        site = load_site(document)
        if found := probe_problems(scene_of(site)):
            raise ModelError(found)
    except ModelError as error:
        problems = [one.as_dict() for one in error.problems]
        _show_problems(problems, path, as_json=as_json)
        raise typer.Exit(FAILED) from error
    edge = site.edge
    counts = {
        "service": len(edge.services),
        "domain": len(edge.domains),
        "route": len(edge.routes),
        "certificate": len(edge.certificates),
        "host": len(site.hosts),
    }
    if as_json:
        notes = [note.as_dict() for note in site.not_acted_on]
        output.show_json(
            {
                "valid": True,
                "problems": [],
                "notes": notes,
                "counts": {f"{what}s": count for what, count in counts.items()},
            }
        )
        return
    output.show_notes(output.problem_line(note.as_dict()) for note in site.not_acted_on)
    typer.echo(f"{path} is valid: " + ", ".join(plural(count, what) for what, count in counts.items()))


def schema(
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it here instead of to stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of the inventory language, for editors and other tools.

    [dim]Examples:[/dim]
      xds-agent schema -o edge.schema.json
      # yaml-language-server: $schema=edge.schema.json     as the first line of a file below edge/
    """
    import json

    from xds_agent.model import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}") from error


def diff(
    path: options.InventoryOrProxy,
    vault_id: options.VaultIds = None,
    vault_password_file: options.VaultFiles = None,
    live: Annotated[
        Path | None,
        typer.Option("--against", help="Compare with this file (xds-agent live) instead of asking control."),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request's comment.")
    ] = False,
    socket: options.Socket = options.SOCKET_DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Say in plain words what an inventory would change on which proxy, compared with what is live.

    Given a proxy instead: what its Envoy really holds, compared with what control believes.
    With --against neither control, nor root, nor any secret is needed: values of vaults are left out.
    Nothing is changed. Exit: 0 no difference, 2 differences, 1 an error (or control cannot be reached).

    [dim]Examples:[/dim]
      xds-agent diff inventories/lab
      xds-agent diff site.json --json | jq .summary
      xds-agent diff inventories/prod --against live.json --markdown
      xds-agent diff edge-aws1
    """
    if is_proxy(path):
        diff_proxy(str(path), socket, as_json=as_json)
        return
    try:
        answer = _answer(path, vault_id, vault_password_file, live, socket)
    except ProblemsFound as error:
        if as_markdown:
            typer.echo(markdown_problems(error.problems), nl=False)
        else:
            _show_problems(error.problems, path, as_json=as_json)
        raise typer.Exit(FAILED) from error
    except CliError as error:
        # 3 would be a third meaning in a script that only asks "any difference?".
        raise CliError(error.words, error.remedy, FAILED) from error
    if as_markdown:
        typer.echo(markdown(answer), nl=False)
    elif as_json:
        output.show_json(answer)
    else:
        output.show_notes(answer.get("notes", ()))
        output.show_changes(answer)
        if answer.get("plan") and answer.get("changed"):
            typer.echo(f"plan {answer['plan']}")
    if answer.get("changed"):
        raise typer.Exit(CHANGES)


def _answer(
    path: Path, vault_ids: list[str] | None, files: list[Path] | None, live: Path | None, socket: Path
) -> dict[str, Any]:
    """Control's answer, or the same from a live.json. Raises ProblemsFound, CliError."""
    if live is not None:
        from xds_agent.compile import CompileError
        from xds_agent.model import ModelError

        try:
            return against(_document(path, vault_ids, files, without_secrets=True), live)
        except (ModelError, CompileError) as error:
            raise ProblemsFound([one.as_dict() for one in error.problems]) from error
    document = _document(path, vault_ids, files)
    body = {"document": document, "author": author(), "reason": "xds-agent diff", "dry_run": True}
    return Control(socket).post("/v1/revisions", body)


def _document(
    path: Path, vault_ids: list[str] | None, files: list[Path] | None, *, without_secrets: bool = False
) -> dict[str, Any]:
    return load_document(
        path, vault_ids=vault_ids or [], vault_password_files=files or [], without_secrets=without_secrets
    )


def _show_problems(problems: list[dict[str, Any]], path: Path, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"valid": False, "problems": problems})
        return
    output.show_problems(problems)
    output.show_error(f"{path} has {plural(len(problems), 'problem')}")


def author() -> str:
    """Who asks, for the history: user@host."""
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return socket.gethostname()
