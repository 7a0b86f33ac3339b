"""Command line of the lab."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from lab import from_pulumi, hosts, place, site, traffic
from lab.commands import attempt
from lab.demos.catalogue import DEMOS
from lab.demos.stage import Demo, Stage, show
from lab.errors import LabError
from lab.place import HostSpec, Place
from lab.progress import Progress, err, out
from lab.wan import command as wan

# systemd's name -> what the table calls it.
UNITS = {"xds-agent-serve": "serve", "xds-agent-node": "node", "envoy": "envoy"}
GOOD = {"running", "active"}
# As shells say it of a command that SIGINT ended.
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if os.getuid() != 0:
        err.print("[red]error:[/] the lab's hosts belong to root")
        err.print(f"  as root: script/lab {' '.join(arguments)}", markup=False)
        return 1
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except LabError as problem:
        err.print("[red]error:[/] ", end="")
        err.print(problem.what, markup=False, soft_wrap=True)
        if problem.remedy:
            err.print(f"  {problem.remedy}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        err.print(_interrupted(arguments), markup=False, soft_wrap=True)
        return INTERRUPTED


def _interrupted(arguments: list[str]) -> str:
    again = f"script/lab {' '.join(arguments)}"
    ends = {
        "up": f"; `{again}` completes it, `script/lab down` removes it",
        "down": f"; `{again}` removes the rest",
    }
    return f"interrupted{ends.get(arguments[0], '')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/lab", description="A three-cloud site on this machine.")
    commands = parser.add_subparsers(required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument("--inventory", type=Path, default=site.INVENTORY, help=argparse.SUPPRESS)
        return command

    up = add("up", _up, "Make the hosts, run site.yml on them, send traffic through them.")
    up.add_argument(
        "--from-pulumi",
        action="store_true",
        help="let the cloud programs make the hosts, in simulated clouds",
    )
    up.add_argument(
        "--interconnect",
        action="store_true",
        help="until 'down', nothing but the tunnels of a WireGuard mesh passes between the clouds",
    )
    up.add_argument("--bare", action="store_true", help="stop when the hosts have booted")
    up.add_argument("--no-traffic", action="store_true", help="stop when site.yml has run")
    up.add_argument("--verbose", action="store_true", help="show all that ansible-playbook says")
    up.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    down = add("down", _down, "Remove hosts, networks and rules of this checkout's lab.")
    down.add_argument("--all", action="store_true", help="forget its certificates and the cached image too")
    status = add("status", _status, "Which hosts run, and what runs on them.")
    status.add_argument("--json", action="store_true", help="print the table as JSON")
    checks = add("traffic", _traffic, "Send requests through the proxies and say what each of them met.")
    checks.add_argument("--json", action="store_true", help="print the table as JSON")
    checks.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="rows whose name holds WORD"
    )
    shell = add("ssh", _ssh, "A shell on a host, or one command there.")
    shell.add_argument("host")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    distance = add("wan", _wan, "Set how far the lab's networks are from each other, or say what is set.")
    distance.description, distance.formatter_class = wan.TEXT, argparse.RawDescriptionHelpFormatter
    wan.add_arguments(distance)
    demo = add("demo", _demos, "Show on the running lab what happens when something goes wrong.")
    demo.add_argument("--json", action="store_true", help="print the result as JSON")
    named = demo.add_subparsers(title="demonstrations", metavar="NAME")
    for one in DEMOS:
        play = named.add_parser(
            one.name, help=one.summary, description=one.story,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        play.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON"
        )
        play.set_defaults(run=functools.partial(_demo, one))
    add("keys", _keys, "Make the certificates of the lab's partners, which the inventory refers to.")
    return parser


def _up(options: argparse.Namespace) -> int:
    progress = Progress()
    plain = place.load(options.inventory)
    site.keys(plain)
    if options.interconnect:
        plain.apart.touch()
    if not options.from_pulumi and from_pulumi.is_made():
        raise LabError("the lab was made by Pulumi", "script/lab up --from-pulumi, or script/lab down before")
    if options.from_pulumi:
        here = from_pulumi.make_hosts(progress)
        play = from_pulumi.run_playbook
    else:
        here = site.make_hosts(options.inventory, progress)
        play = site.run_playbook
    result: dict[str, Any] = {"hosts": [_facts(here, host, "running") for host in here.hosts]}
    code = 0
    if not options.bare:
        progress.say("running site.yml (its output: .lab/site.log)")
        recap = play("site.yml", here, progress, verbose=options.verbose)
        progress.say(
            f"site.yml: {recap.total_changed} changes on {len(recap.changed)} hosts in {recap.seconds:.0f} s"
        )
        result["site"] = {"changed": recap.changed, "seconds": round(recap.seconds, 1)}
        if not options.no_traffic:
            rows = traffic.measure(here, progress.say)
            result["traffic"] = [row.as_json() for row in rows]
            traffic.show(rows, err if options.json else out)
            code = 0 if all(row.as_expected for row in rows) else 1
    result["seconds"] = round(progress.seconds, 1)
    progress.say(
        "the lab is up" if code == 0 else "[red]the lab is up, but not every request met what it should[/]"
    )
    if options.json:
        print(json.dumps(result, indent=2))
    return code


def _place(options: argparse.Namespace) -> Place:
    """The lab there is: its hosts as the inventory writes them, or as Pulumi made them."""
    here = place.load(options.inventory)
    return from_pulumi.from_stack(here) if from_pulumi.is_made() else here


def _down(options: argparse.Namespace) -> int:
    here = place.load(options.inventory)
    destroyed = from_pulumi.tear_down(here, Progress()) if from_pulumi.is_made() else 0
    gone = site.tear_down(here, forget=options.all)
    by_pulumi = f" ({destroyed} of them by pulumi destroy)" if destroyed else ""
    err.print(
        f"removed {len(gone['containers']) + destroyed} hosts{by_pulumi}, {len(gone['networks'])} networks, "
        f"{gone['rules']} routing rule(s)"
    )
    return 0


def _facts(here: Place, host: HostSpec, state: str) -> dict[str, Any]:
    roles = [group for group in host.groups if group not in ("all", "lab", host.cloud)]
    return {
        "name": host.name, "state": state, "address": host.address, "cloud": host.cloud, "groups": roles,
        "container": host.container,
    }  # fmt: skip


def _status(options: argparse.Namespace) -> int:
    here = _place(options)
    states = hosts.states(here)
    rows = []
    for host in here.hosts:
        facts = _facts(here, host, states.get(host.container, "absent"))
        facts["units"] = _units(host) if facts["state"] == "running" else {}
        rows.append(facts)
    if options.json:
        print(json.dumps({"supernet": here.supernet, "hosts": rows}, indent=2))
    else:
        _show_status(rows)
        if wan.is_set(here):
            err.print("some networks are farther apart than this machine makes them: script/lab wan")
    return 0 if all(row["state"] == "running" for row in rows) else 1


def _units(host: HostSpec) -> dict[str, str]:
    """Unit -> systemd's word, for our units that exist on the host."""
    answer = attempt(
        ["podman", "exec", host.container, "systemctl", "show", "--property=Id,ActiveState,LoadState", *UNITS]
    ).stdout
    units = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in answer.split("\n\n")
    ]
    return {
        unit["Id"].removesuffix(".service"): unit["ActiveState"]
        for unit in units
        if unit.get("LoadState") == "loaded"
    }


def _show_status(rows: list[dict[str, Any]]) -> None:
    table = Table("host", "state", "address", "cloud", "groups", "runs")
    for row in rows:
        colour = "green" if row["state"] in GOOD else "red"
        units = "  ".join(
            f"[green]{UNITS[unit]}[/]" if word in GOOD else f"[red]{UNITS[unit]} {word}[/]"
            for unit, word in row["units"].items()
        )
        state = f"[{colour}]{row['state']}[/]"
        table.add_row(row["name"], state, row["address"], row["cloud"] or "", " ".join(row["groups"]), units)
    out.print(table)


def _traffic(options: argparse.Namespace) -> int:
    progress = Progress()
    rows = traffic.measure(_place(options), progress.say, only=tuple(options.only))
    if options.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        traffic.show(rows, out)
    return 0 if rows and all(row.as_expected for row in rows) else 1


def _demos(options: argparse.Namespace) -> int:
    """Without a name: which there are."""
    if options.json:
        print(json.dumps([{"name": one.name, "summary": one.summary} for one in DEMOS], indent=2))
        return 0
    table = Table("script/lab demo", "shows")
    for one in DEMOS:
        table.add_row(one.name, one.summary)
    out.print(table)
    return 0


def _demo(demo: Demo, options: argparse.Namespace) -> int:
    here = place.load(options.inventory)
    progress = Progress()
    stage = Stage(here, traffic.as_clients(here), options.inventory, progress.say)
    shown = list(demo.play(stage))
    if options.json:
        print(json.dumps({"demo": demo.name, "shown": [one.as_json() for one in shown]}, indent=2))
    else:
        show(shown, out)
    return 0 if shown and all(one.as_claimed for one in shown) else 1


def _wan(options: argparse.Namespace) -> int:
    return wan.run(_place(options), options)


def _ssh(options: argparse.Namespace) -> int:
    here = _place(options)
    host = here.host(options.host)
    state = hosts.states(here).get(host.container)
    if state != "running":
        raise LabError(
            f"{host.name} is {state or 'not there'}", "script/lab up makes and starts the lab's hosts"
        )
    podman = shutil.which("podman") or "podman"
    flags = ["--interactive", *(["--tty"] if os.isatty(0) and os.isatty(1) else [])]
    command = options.command or ["bash", "--login"]
    os.execv(podman, [podman, "exec", *flags, host.container, *command])


def _keys(options: argparse.Namespace) -> int:
    site.keys(place.load(options.inventory))
    return 0
