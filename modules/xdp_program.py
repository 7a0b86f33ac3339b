#!/usr/bin/python
"""Attach an XDP program to an interface, exchange it without losing a packet, or take it off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: xdp_program
short_description: The XDP program of a network interface
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Loads a compiled object, pins its program and maps, and attaches it. One program takes the other's place
    by a single write of the kernel, so no packet passes unseen in between.
  - Two programs are the same when the kernel's tag of them is. The datapath of MarchProxy is attached by
    the node agent; this module is for programs of one's own.
  - Somebody else's program is refused by its name unless O(replace) allows it. With O(confirm_within) the
    host takes the change back by itself unless a second call with O(confirm) reaches it over a new
    connection.
requirements: [bpftool, 'xds-agent, for O(preflight)']
options:
  interface:
    description: Name of the interface.
    type: str
    required: true
  state:
    description: Whether the program is attached.
    type: str
    choices: [present, absent]
    default: present
  object:
    description: The compiled object, on the host.
    type: path
  program:
    description: Name of the program in the object, where it has several.
    type: str
    default: ""
  mode:
    description: C(native) is run by the driver, C(skb) by the kernel behind it, slower.
    type: str
    choices: [native, skb]
    default: native
  pins:
    description: Folder below C(/sys/fs/bpf) for the pinned programs and maps, this module's alone.
    type: path
    default: /sys/fs/bpf/xdp_program
  replace:
    description: Take the place of a program that is not pinned by this module.
    type: bool
    default: false
  preflight:
    description:
      - Before an interface that has no program gets one, packets go through its driver and come back by
        C(XDP_TX) (C(xds-agent datapath preflight)); one that loses them is refused with the remedy.
      - C(false) for programs that send nothing, where the far end takes nothing from XDP, and for hosts
        without role C(xdp).
    type: bool
    default: true
extends_documentation_fragment: marchproxy.edge.commit_confirm
attributes:
  check_mode:
    description: The object is loaded and verified by the kernel, and let go again. Preflight is announced.
    support: full
  diff_mode:
    description: One line with the program before and after.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Our own filter
  marchproxy.edge.xdp_program:
    interface: ens5
    object: /usr/local/lib/bpf/filter.bpf.o
    confirm_within: 30

- name: Reach the host anew
  ansible.builtin.meta: reset_connection

- name: Keep it
  marchproxy.edge.xdp_program:
    interface: ens5
    confirm: true
"""

RETURN = r"""
actions:
  description: What was changed, or would be.
  returned: always
  type: list
  elements: str
  sample: ["ens5 xdp: none -> filter (tag 3b185187f1855c4c, native)"]
preflight:
  description: What was shown of the interface, empty where it was not tried again.
  returned: always
  type: str
  sample: >-
    192.0.2.1 answered 8 questions, 7 of them sent by XDP:
    packets come in by native XDP, and what it sends arrives
unconfirmed:
  description: Whether the change waits to be confirmed.
  returned: always
  type: bool
"""

import json
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils import bpftool, commit_confirm
from ansible_collections.marchproxy.edge.plugins.module_utils.bpftool import MODES, BpfError

CONCERN = "xdp"
# Beside our own generations: somebody else's program whose place we took, until that is confirmed.
REPLACED = "replaced"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARGUMENTS: dict[str, Any] = {
    "interface": {"type": "str", "required": True},
    "state": {"choices": ["present", "absent"], "default": "present"},
    "object": {"type": "path"},
    "program": {"type": "str", "default": ""},
    "mode": {"choices": ["native", "skb"], "default": "native"},
    "pins": {"type": "path", "default": "/sys/fs/bpf/xdp_program"},
    "replace": {"type": "bool", "default": False},
    "preflight": {"type": "bool", "default": True},
    **commit_confirm.OPTIONS,
}


def words(program: dict[str, Any]) -> str:
    """A program for people."""
    return f"{program['name']} (tag {program['tag']}, {program['mode']})" if program else "none"


def load(run: bpftool.Run, object_path: str, name: str, folder: Path) -> dict[str, Any]:
    """Load the object, pinned below `folder`; BpfError with the verifier's reason."""
    if not Path(object_path).is_file():
        raise BpfError(f"{object_path}: no such object on this host")
    folder.mkdir(parents=True)
    maps = folder / "maps"
    try:
        bpftool.ask(
            run, "prog", "loadall", object_path, str(folder / "programs"), "type", "xdp", "pinmaps", str(maps)
        )
    except BpfError as error:
        remove(folder)
        raise BpfError(f"{object_path} is not loaded: {error}") from None
    found = {one.name: one for one in (folder / "programs").iterdir()}
    if name and name not in found:
        raise BpfError(f"{object_path} has no program {name}; it has {', '.join(sorted(found))}")
    if not name and len(found) > 1:
        raise BpfError(f"{object_path} has several programs, name one (program): {', '.join(sorted(found))}")
    pin = found[name] if name else next(iter(found.values()))
    shown = bpftool.ask(run, "prog", "show", "pinned", str(pin))
    return {"id": shown["id"], "tag": shown["tag"], "name": shown.get("name", ""), "pin": str(pin)}


def remove(folder: Path) -> None:
    """Take pins away; what is attached stays attached."""
    if folder.is_dir():
        for one in sorted(folder.rglob("*"), reverse=True):
            one.rmdir() if one.is_dir() else one.unlink()
        folder.rmdir()


def ours(run: bpftool.Run, pins: Path) -> dict[int, Path]:
    """Program number -> its pin, of everything this module has pinned here."""
    found = {}
    for pin in pins.glob("*/programs/*"):
        found[int(bpftool.ask(run, "prog", "show", "pinned", str(pin))["id"])] = pin
    return found


def attach(mode: str, pin: str, interface: str) -> list[str]:
    return ["bpftool", "net", "attach", MODES[mode], "pinned", pin, "dev", interface, "overwrite"]


def detach(mode: str, interface: str) -> list[str]:
    return ["bpftool", "net", "detach", MODES[mode], "dev", interface]


def tried(run: bpftool.Run, interface: str, mode: str) -> str:
    """What packets through the interface showed; BpfError with what stands against it."""
    if shutil.which("xds-agent") is None:
        raise BpfError(
            f"{interface} cannot be tried before it gets a program: xds-agent is not on this host (role "
            "xds_agent); preflight: false does without"
        )
    code, out, err = run(["xds-agent", "datapath", "preflight", interface, "--mode", mode, "--json"])
    if code:
        raise BpfError((err or out).strip().removeprefix("xds-agent: "))
    return str(json.loads(out)["preflight"][interface])


class Call:
    """One call of the module: what is there, what should be, the commands between, the commands back."""

    def __init__(self, params: dict[str, Any], run: bpftool.Run) -> None:
        self.params, self.run = params, run
        self.interface, self.mode = params["interface"], params["mode"]
        self.pins = Path(params["pins"]) / self.interface
        if not Path(bpftool.BPFFS).is_mount():
            raise BpfError(
                f"{bpftool.BPFFS} is not mounted: mount -t bpf bpf {bpftool.BPFFS} (sys-fs-bpf.mount)"
            )
        self.before = bpftool.attached(run, self.interface)
        self.mine = {
            number: pin for number, pin in ours(run, self.pins).items() if pin.parent.parent.name != REPLACED
        }

    def plan(self) -> tuple[dict[str, Any], list[list[str]], list[list[str]]]:
        """The program afterwards, the commands, and those back; no commands for no change."""
        wanted = self._wanted()
        before = self.before
        if before and before["id"] not in self.mine and not self.params["replace"] and wanted != before:
            raise BpfError(
                f"{self.interface} has another's program: {words(before)}; take it off first, or say "
                "replace: true"
            )
        if not wanted:
            commands = [detach(before["mode"], self.interface)] if before else []
        elif before and (before["tag"], before["mode"]) == (wanted["tag"], wanted["mode"]):
            return before, [], []
        else:
            # The kernel does not let one mode take the other's place.
            off = [detach(before["mode"], self.interface)] if before and before["mode"] != self.mode else []
            commands = [*off, attach(self.mode, wanted["pin"], self.interface)]
        undo = [detach(self.mode, self.interface)] if wanted and before.get("mode") != self.mode else []
        if before and before["id"] in self.mine:
            undo.append(attach(before["mode"], str(self.mine[before["id"]]), self.interface))
        elif before and commands:
            # Kept alive until the change is confirmed, or there would be nothing to go back to.
            pin = self.pins / REPLACED / "programs" / "before"
            keep = [
                ["rm", "-rf", str(self.pins / REPLACED)],
                ["mkdir", "-p", str(pin.parent)],
                ["bpftool", "prog", "pin", "id", str(before["id"]), str(pin)],
            ]
            commands = [*keep, *commands]
            undo.append(attach(before["mode"], str(pin), self.interface))
        return wanted, commands, undo if commands else []

    def _wanted(self) -> dict[str, Any]:
        if self.params["state"] == "absent":
            return {}
        fresh = self.pins / f"generation-{max(self._numbers(), default=0) + 1}"
        return load(self.run, self.params["object"], self.params["program"], fresh) | {"mode": self.mode}

    def _numbers(self) -> list[int]:
        return [int(one.name.rpartition("-")[2]) for one in self.pins.glob("generation-*")]

    def first(self, after: dict[str, Any]) -> bool:
        """Whether the interface gets a program and has none now."""
        return bool(after) and not self.before

    def preflight(self) -> str:
        """As `tried`; what was loaded goes again where it is refused."""
        try:
            return tried(self.run, self.interface, self.mode)
        except BpfError:
            self.drop(keep=0)
            raise

    def drop(self, keep: int) -> None:
        """Take away the pins of all programs but this number's, unless the way back needs them."""
        if commit_confirm.is_armed(CONCERN, self.run):
            return
        for number, pin in ours(self.run, self.pins).items():
            if number != keep:
                remove(pin.parent.parent)

    def carry_out(self, commands: list[list[str]]) -> None:
        for command in commands:
            code, out, err = self.run(command)
            if code:
                told = bpftool.last_lines(err or out)
                raise BpfError(f"{self.interface}: {' '.join(command)}: {told}; what was attached is again")


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True,
        required_if=[("state", "present", ("object", "confirm"), True)],
    )  # fmt: skip
    params = module.params

    def run(command: list[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(command)
        return code, out, err

    if shutil.which("bpftool", path=PATH) is None:
        if module.check_mode and not params["confirm"]:
            module.exit_json(**commit_confirm.unknown_yet("bpftool"))
        module.fail_json(msg="bpftool is not installed: install the Debian package bpftool")
    try:
        call = Call(params, run)
        if params["confirm"]:
            result = commit_confirm.confirm_result(CONCERN, run, check=module.check_mode)
            if result["changed"] and not module.check_mode:
                call.drop(keep=call.before.get("id", 0))
            module.exit_json(**result)
        after, commands, undo = call.plan()
        first = params["preflight"] and call.first(after)
        shown = call.preflight() if first and not module.check_mode else ""
        if commands and not module.check_mode:
            commit_confirm.change(
                CONCERN,
                lambda: call.carry_out(commands),
                undo=undo,
                within_s=params["confirm_within"],
                run=run,
            )
        unconfirmed = bool(commands) and params["confirm_within"] > 0
        if module.check_mode or not commands:
            call.drop(keep=call.before.get("id", 0))
        elif not unconfirmed:
            call.drop(keep=after.get("id", 0))
    except (BpfError, commit_confirm.ConfirmError) as error:
        module.fail_json(msg=str(error))
    lines = [f"{call.interface} xdp: {words(one)}" for one in (call.before, after)]
    if module.check_mode and first:
        lines.append(
            f"{call.interface} would be tried first: packets through it, and back by XDP (preflight)"
        )
    module.exit_json(
        preflight=shown,
        **commit_confirm.result(
            [f"{call.interface} xdp: {words(call.before)} -> {words(after)}"] if commands else [],
            lines[:1] if commands else [], lines[1:] if commands else [], unconfirmed=unconfirmed,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
