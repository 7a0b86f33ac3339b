#!/usr/bin/python
"""Bring systemd units to run what is on disk; whether a restart is needed is compared, never remembered."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Bring systemd units to run what is on disk
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Enables, starts, reloads and restarts units in one call.
  - A handler is lost when a run fails between the change and its end. Here the need is found by comparison -
    a unit whose C(ExecStartPre=) writes C(sha256sum) lines of what it starts with to
    C(/run/marchproxy/started/UNIT) is restarted, or reloaded, exactly when one of those files is another now.
  - A unit that writes no such lines (one of the distribution's) is when a file is younger than its start.
options:
  units:
    description: The units, brought to their state in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name of the unit.
        type: str
        required: true
      state:
        description: Whether it runs.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether it starts at boot.
        type: bool
        default: true
      restart_on:
        description: Files whose change needs a restart.
        type: list
        elements: path
        default: []
      reload_on:
        description: Files whose change needs a reload.
        type: list
        elements: path
        default: []
  started_dir:
    description: Where units write down what they started with.
    type: path
    default: /run/marchproxy/started
attributes:
  check_mode:
    description: Says what would be done; a unit that is not installed yet would be started.
    support: full
  diff_mode:
    description: One line per action with its reason.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Run the agent
  marchproxy.edge.units:
    units:
      - name: xds-agent-node.service
        restart_on: [/etc/marchproxy/node.yml, /etc/systemd/system/xds-agent-node.service]
"""

RETURN = r"""
actions:
  description: What was done, or would be, and why.
  returned: always
  type: list
  elements: str
  sample: ["restart xds-agent-node.service: /etc/marchproxy/node.yml changed since it started"]
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,ExecMainStartTimestamp,ActiveEnterTimestamp"
)
# `enable` comes before `start` in every plan, so that a failed start is not lost at boot.
ENABLED = {"enabled", "enabled-runtime", "static", "alias", "indirect", "generated"}

# The kernel stamps files by a clock that moves in steps of up to 10 ms.
CLOCK_STEP_S = 0.01

Run = Callable[..., tuple[int, str, str]]


class UnitsError(Exception):
    """systemd refused; the words name the unit and quote its log."""


@dataclass(frozen=True)
class Action:
    """One call of systemctl."""

    verb: str
    unit: str
    reason: str

    def __str__(self) -> str:
        return f"{self.verb} {self.unit}: {self.reason}" if self.reason else f"{self.verb} {self.unit}"


@dataclass(frozen=True)
class State:
    """A unit as systemd sees it.

    `started_with` holds digests of what it was started with (None: it writes none). `started_at` is Unix
    time with its fraction: a service that its package started and we configure within the same second is not
    up to date.
    """

    load: str
    active: str
    file_state: str
    needs_daemon_reload: bool
    started_with: dict[str, str] | None
    started_at: float


def read_record(path: Path) -> dict[str, str] | None:
    """Lines of sha256sum -> path: digest; None where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1].lstrip("*"): pair[0] for pair in pairs if len(pair) == 2}


def changed_at(path: str) -> float:
    """Unix time of a file's last change; 0 where there is none."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0


def digest(path: str) -> str:
    """SHA-256 of a file in hex; "" where there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Blocks of `systemctl show` -> unit: its properties."""
    units: dict[str, dict[str, str]] = {}
    for block in text.strip().split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "Id" in pairs:
            units[pairs["Id"]] = pairs
    return units


def gather(names: list[str], run: Run, started_dir: Path) -> dict[str, State]:
    """The units' states by one call of systemctl."""
    code, out, err = run(["systemctl", "show", "--timestamp=us+utc", "--property", PROPERTIES, "--", *names])
    if code:
        raise UnitsError(f"systemctl show: {err.strip() or out.strip()}; does this host run systemd?")
    shown = parse_show(out)
    return {
        name: State(
            load=shown.get(name, {}).get("LoadState", "not-found"),
            active=shown.get(name, {}).get("ActiveState", "inactive"),
            file_state=shown.get(name, {}).get("UnitFileState", ""),
            needs_daemon_reload=shown.get(name, {}).get("NeedDaemonReload") == "yes",
            started_with=read_record(started_dir / name),
            started_at=_started_at(shown.get(name, {})),
        )
        for name in names
    }


def _started_at(shown: dict[str, str]) -> float:
    """Start of a service's process; of a timer or socket, which has none, since when it is active."""
    said = shown.get("ExecMainStartTimestamp") or shown.get("ActiveEnterTimestamp") or ""
    if not said:
        return 0.0
    # "Wed 2026-11-25 03:47:00.374361 UTC"; the day's name is of no use.
    _, day, clock, _ = said.split()
    return datetime.fromisoformat(f"{day}T{clock}+00:00").timestamp()


def plan(
    wanted: list[dict[str, Any]], states: dict[str, State], digest_of: Callable[[str], str]
) -> list[Action]:
    """What to do, in order."""
    actions: list[Action] = []
    if any(state.needs_daemon_reload or state.load == "not-found" for state in states.values()):
        actions.append(Action("daemon-reload", "", ""))
    for unit in wanted:
        name, state = unit["name"], states[unit["name"]]
        if unit["enabled"] != (state.file_state in ENABLED):
            actions.append(Action("enable" if unit["enabled"] else "disable", name, ""))
        if unit["state"] == "stopped":
            if state.active in ("active", "activating", "reloading"):
                actions.append(Action("stop", name, "it should not run"))
            continue
        if state.active not in ("active", "reloading"):
            # Given up on by systemd, or waiting for its next try: restart begins afresh in both cases.
            verb = "start" if state.active == "inactive" else "restart"
            actions.append(Action(verb, name, f"it is {state.active}"))
            continue
        action = _renewal(unit, state, digest_of)
        if action is not None:
            actions.append(action)
    return actions


def _renewal(unit: dict[str, Any], state: State, digest_of: Callable[[str], str]) -> Action | None:
    watched = [*unit["restart_on"], *unit["reload_on"]]
    if not watched:
        return None
    known = state.started_with
    for verb, paths in (("restart", unit["restart_on"]), ("reload", unit["reload_on"])):
        if known is None:
            changed = [path for path in paths if changed_at(path) > state.started_at - CLOCK_STEP_S]
        else:
            changed = [path for path in paths if known.get(path, "") != digest_of(path)]
        if changed:
            return Action(verb, unit["name"], f"{', '.join(changed)} changed since it started")
    return None


def apply(actions: list[Action], run: Run) -> None:
    """Carry the plan out; raises UnitsError with the unit's last log lines."""
    for action in actions:
        target = ["--", action.unit] if action.unit else []
        code, out, err = run(["systemctl", "--no-ask-password", action.verb, *target])
        if code == 0:
            continue
        words = err.strip() or out.strip()
        _, log, _ = run(
            ["journalctl", "--unit", action.unit, "--lines", "15", "--no-pager", "--output", "cat"]
        )
        raise UnitsError(f"systemctl {action.verb} {action.unit}: {words}\nIts log ends:\n{log.strip()}")


ARGUMENTS: dict[str, Any] = {
    "units": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "state": {"choices": ["started", "stopped"], "default": "started"},
            "enabled": {"type": "bool", "default": True},
            "restart_on": {"type": "list", "elements": "path", "default": []},
            "reload_on": {"type": "list", "elements": "path", "default": []},
        },
    },
    "started_dir": {"type": "path", "default": "/run/marchproxy/started"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = module.params["units"]
    try:
        states = gather(
            [unit["name"] for unit in wanted], module.run_command, Path(module.params["started_dir"])
        )
        actions = plan(wanted, states, digest)
        if not module.check_mode:
            apply(actions, module.run_command)
    except UnitsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"systemctl: {error.strerror}; this role needs a host that runs systemd")
    visible = [action for action in actions if action.unit]
    lines = [str(action) for action in visible]
    module.exit_json(
        changed=bool(visible),
        actions=lines,
        diff={"before": "", "after": "".join(f"{line}\n" for line in lines)},
    )


if __name__ == "__main__":
    main()
