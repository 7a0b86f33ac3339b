"""A change reviewed away from control: what is live in a file, the words in Markdown, no secret anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from xds_agent.cli import options, output
from xds_agent.cli.control import Control
from xds_agent.cli.errors import CliError


def live(
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it here instead of to stdout.")
    ] = None,
    socket: options.Socket = options.SOCKET_DEFAULT,
) -> None:
    """Print what is live as JSON, without any secret.

    For `diff --against` and `explain-packet --site` elsewhere: it holds file and line of everything.

    [dim]Example:[/dim]
      ssh control1 xds-agent live > live.json
    """
    text = json.dumps(Control(socket).get("/v1/live"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}") from error


def against(document: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """What `document` changes compared with a live.json, as control says it. Raises ModelError, CliError."""
    from xds_agent.rollout.review import BadLive, review

    try:
        exported = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(f"{file} cannot be read: {error}", "make it: xds-agent live > live.json") from error
    try:
        return review(document, exported)
    except BadLive as error:
        raise CliError(f"{file}: {error}", "make it anew: xds-agent live > live.json") from error


def markdown(answer: Mapping[str, Any]) -> str:
    """The words of a change for a pull request's comment."""
    parts = ["### What this changes", ""]
    groups: dict[str, list[str]] = {}
    for line in answer.get("lines", ()):
        groups.setdefault(", ".join(line.get("proxies") or ()), []).append(str(line["text"]))
    for proxies, texts in groups.items():
        parts.append(f"**{_escaped(proxies or 'the site')}**")
        parts += [f"- {_escaped(text)}" for text in texts]
        parts.append("")
    parts.append(f"**{_escaped(str(answer.get('summary') or 'nothing changes'))}**")
    parts += _folded("Notes", answer.get("notes", ()))
    removals = answer.get("removals", ())
    if removals:
        parts += ["", f"Removals must be named: `-e allow_removal={','.join(removals)}`"]
    if answer.get("changed") and answer.get("plan"):
        base = f", compared with revision {answer['against']}" if answer.get("against") else ""
        parts += ["", f"Plan `{answer['plan']}`{base}. To apply just this:", "", "```"]
        parts += [f"ansible-playbook playbooks/routes.yml -e plan={answer['plan']}", "```"]
    return "\n".join(parts) + "\n"


def markdown_problems(problems: Sequence[Mapping[str, Any]]) -> str:
    """The same for an inventory that is not valid."""
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the inventory"
    lines = [f"- {_escaped(output.problem_line(problem))}" for problem in problems]
    return "\n".join([f"### {count}", "", *lines]) + "\n"


def _folded(title: str, texts: Iterable[str]) -> list[str]:
    lines = [f"- {_escaped(str(text))}" for text in texts]
    if not lines:
        return []
    return ["", f"<details><summary>{title} ({len(lines)})</summary>", "", *lines, "", "</details>"]


def _escaped(text: str) -> str:
    """Nothing an inventory says may become a link, a mention or HTML."""
    special = "\\`*_[]<>#|@"
    return "".join(f"\\{one}" if one in special else one for one in text).replace("\n", " ")
