#!/usr/bin/python
"""Bring the entries of pinned BPF maps to what they should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_map
short_description: Entries of pinned BPF maps
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Writes and deletes entries of hash, LPM and array maps that are pinned, all of them in one call, and
    only those that differ. With O(maps[].purge) what is not named goes.
  - The maps of MarchProxy's datapath are written by the node agent from the inventory and are refused here.
requirements: [bpftool]
options:
  maps:
    description: The maps.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the map is pinned.
        type: path
        required: true
      entries:
        description: Its entries. C(key) and C(value) are whole numbers (in the host's byte order), bytes as
          hexadecimal digits behind C(0x), or lists of bytes.
        type: list
        elements: dict
        default: []
        suboptions:
          key:
            description: The key.
            type: raw
            required: true
          value:
            description: The value.
            type: raw
          state:
            description: Whether the entry is there.
            type: str
            choices: [present, absent]
            default: present
      purge:
        description: Delete entries that are not named. Not for arrays, whose entries are always there.
        type: bool
        default: false
attributes:
  check_mode:
    description: The same plan, not carried out.
    support: full
  diff_mode:
    description: One line per entry.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Whom the filter of one's own lets through
  marchproxy.edge.bpf_map:
    maps:
      - path: /sys/fs/bpf/xdp_program/ens5/generation-1/maps/allowed
        purge: true
        entries: [{key: "0x0a000001", value: 1}]
"""

RETURN = r"""
actions:
  description: What was changed, or would be.
  returned: always
  type: list
  elements: str
  sample: ["/sys/fs/bpf/allowed 0a000001: none -> 01000000"]
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils import bpftool, commit_confirm
from ansible_collections.marchproxy.edge.plugins.module_utils.bpftool import BpfError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AGENTS = "/run/marchproxy/bpf"
ARGUMENTS: dict[str, Any] = {
    "maps": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "entries": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "key": {"type": "raw", "required": True, "no_log": False},
                    "value": {"type": "raw"},
                    "state": {"choices": ["present", "absent"], "default": "present"},
                },
            },
            "purge": {"type": "bool", "default": False},
        },
    },
}


@dataclass(frozen=True)
class Map:
    """A pinned map as it is. Keys and values are bytes as bpftool writes them."""

    path: str
    kind: str
    key_bytes: int
    value_bytes: int
    entries: dict[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Step:
    """One entry that changes; no `after` deletes it."""

    path: str
    key: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    def line(self, value: tuple[str, ...]) -> str:
        return f"{self.path} {_hex(self.key)}: {_hex(value) or 'none'}"

    def command(self) -> list[str]:
        verb = ["update"] if self.after else ["delete"]
        value = ["value", *self.after, "any"] if self.after else []
        return ["bpftool", "map", *verb, "pinned", self.path, "key", *self.key, *value]


def _hex(cells: tuple[str, ...]) -> str:
    return "".join(one.removeprefix("0x") for one in cells)


def gather(run: bpftool.Run, path: str) -> Map:
    """The map and its entries; BpfError where there is none, or where it is the agent's."""
    if Path(path).resolve().is_relative_to(AGENTS):
        raise BpfError(f"{path}: the node agent writes this map from the inventory; edit that")
    if not Path(path).exists():
        raise BpfError(f"{path}: nothing is pinned there")
    shown = bpftool.ask(run, "map", "show", "pinned", path)
    dumped = bpftool.ask(run, "map", "dump", "pinned", path) or []
    entries = {tuple(one["key"]): tuple(one["value"]) for one in dumped if isinstance(one.get("value"), list)}
    return Map(path, shown["type"], shown["bytes_key"], shown["bytes_value"], entries)


def plan(found: Map, wanted: dict[str, Any]) -> list[Step]:
    """Entries that differ, sorted by key; BpfError names every entry that cannot be."""
    steps, named, problems = [], set(), []
    for at, entry in enumerate(wanted["entries"]):
        try:
            key = tuple(bpftool.cell(entry["key"], found.key_bytes))
            present = entry["state"] == "present"
            if present and entry["value"] is None:
                raise BpfError("an entry that is present needs a value")
            after = tuple(bpftool.cell(entry["value"], found.value_bytes)) if present else ()
        except BpfError as error:
            problems.append(f"{found.path}: entries[{at}]: {error}")
            continue
        if key in named:
            problems.append(f"{found.path}: entries[{at}]: key {_hex(key)} is named twice")
        named.add(key)
        before = found.entries.get(key, ())
        if before != after:
            steps.append(Step(found.path, key, before, after))
    is_array = "array" in found.kind
    if is_array and (wanted["purge"] or any(not one.after for one in steps)):
        problems.append(f"{found.path}: entries of an array cannot be deleted; write zeros instead")
    if problems:
        raise BpfError("; ".join(problems))
    if wanted["purge"]:
        steps += [
            Step(found.path, key, value, ()) for key, value in found.entries.items() if key not in named
        ]
    return sorted(steps, key=lambda one: one.key)


def planned(run: bpftool.Run, maps: list[dict[str, Any]]) -> list[Step]:
    """The plan of all maps; BpfError names every mistake at once."""
    steps: list[Step] = []
    problems: list[str] = []
    for wanted in maps:
        try:
            steps += plan(gather(run, wanted["path"]), wanted)
        except BpfError as error:
            problems.append(str(error))
    if problems:
        raise BpfError("; ".join(problems))
    return steps


def carry_out(run: bpftool.Run, steps: list[Step]) -> None:
    """Write them one after the other; BpfError tells at the first refusal how many were written."""
    for done, step in enumerate(steps):
        code, out, err = run(step.command())
        if code:
            told = bpftool.last_lines(err or out)
            raise BpfError(
                f"{step.path} {_hex(step.key)}: {told}; {done} of {len(steps)} entries were written"
            )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(command: list[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(command)
        return code, out, err

    if shutil.which("bpftool", path=PATH) is None:
        if module.check_mode:
            module.exit_json(**commit_confirm.unknown_yet("bpftool"))
        module.fail_json(msg="bpftool is not installed: install the Debian package bpftool")
    try:
        steps = planned(run, module.params["maps"])
        if not module.check_mode:
            carry_out(run, steps)
    except BpfError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(steps),
        actions=[f"{one.line(one.before)} -> {_hex(one.after) or 'none'}" for one in steps],
        diff={
            "before": "".join(f"{one.line(one.before)}\n" for one in steps),
            "after": "".join(f"{one.line(one.after)}\n" for one in steps),
        },
    )


if __name__ == "__main__":
    main()
