#!/usr/bin/python
"""Shape what leaves an interface: an HTB class for each of P0 to P3."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tc_qos
short_description: HTB classes for the QoS classes P0 to P3 of an interface's egress
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Puts HTB at the root of an interface with a class for each of C(P0) to C(P3) (1:10 to 1:13). A class is
    sure of its rate, may borrow up to its ceiling, and is served before the ones behind it.
  - What C(tc_egress), or any program, marks with a class goes there; what nobody marked is P3. Traffic that
    XDP sends back by itself passes no queue and is not shaped.
  - Classes that differ are changed in place. Another queueing discipline at the root is refused, not
    replaced, and so is an HTB that lacks some of these classes or has others (1:100 and up are the node
    agent's, of services with a bandwidth).
  - Settings do not survive a boot; the role C(nic) applies them again then.
requirements: [python3-pyroute2]
options:
  interfaces:
    description: The interfaces.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      state:
        description: Whether its egress is shaped.
        type: str
        choices: [present, absent]
        default: present
      rate:
        description: What the link carries, such as V(10gbit). Less than what is beyond it, or the queue
          forms there.
        type: str
      classes:
        description: C(rate) and C(ceil) of C(P0) to C(P3), as a bit rate or a share such as V(20%). By
          default 20, 40, 30 and 10 percent, each up to the whole link.
        type: dict
        default: {}
extends_documentation_fragment: marchproxy.edge.commit_confirm
attributes:
  check_mode:
    description: The same plan, not carried out.
    support: full
  diff_mode:
    description: One line per class.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: A gigabit, half of it for P0 for sure
  marchproxy.edge.tc_qos:
    interfaces:
      - name: ens5
        rate: 1gbit
        classes: {P0: {rate: 50%}, P1: {rate: 30%}, P2: {rate: 15%}, P3: {rate: 5%, ceil: 50%}}
"""

RETURN = r"""
actions:
  description: What was changed, or would be.
  returned: always
  type: list
  elements: str
  sample: ["ens5 class 1:10: none -> rate 500mbit, ceil 1gbit, prio 0"]
unconfirmed:
  description: Whether the change waits to be confirmed.
  returned: always
  type: bool
"""

import importlib.util
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils import commit_confirm, htb

CONCERN = "qos"
ARGUMENTS: dict[str, Any] = {
    "interfaces": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "rate": {"type": "str"},
            "classes": {"type": "dict", "default": {}},
        },
        "required_if": [["state", "present", ["rate"]]],
    },
    **commit_confirm.OPTIONS,
}


def planned(interfaces: list[dict[str, Any]], netlink: Any) -> list[htb.Step]:
    """The plan of all interfaces; HtbError names every mistake at once."""
    steps: list[htb.Step] = []
    problems: list[str] = []
    for one in interfaces:
        try:
            steps += _planned(one, netlink)
        except htb.HtbError as error:
            problems.append(str(error))
    if problems:
        raise htb.HtbError("; ".join(problems))
    return steps


def _planned(one: dict[str, Any], netlink: Any) -> list[htb.Step]:
    name = one["name"]
    found = netlink.link_lookup(ifname=name)
    if not found:
        there = ", ".join(sorted(link.get_attr("IFLA_IFNAME") for link in netlink.get_links()))
        raise htb.HtbError(f"no interface {name} on this host; there are: {there}")
    wanted = htb.wanted_tree(name, one["rate"], one["classes"]) if one["state"] == "present" else None
    now = htb.tree_of(netlink.get_qdiscs(index=found[0]), netlink.get_classes(index=found[0]))
    steps: list[htb.Step] = htb.plan(name, found[0], now, wanted)
    return steps


def carry_out(steps: list[htb.Step], netlink: Any) -> None:
    """One after the other; HtbError with the kernel's words at the first that is refused."""
    for step in steps:
        try:
            netlink.tc(step.verb, **step.arguments)
        except Exception as error:  # pyroute2's own, whose place differs between its versions
            raise htb.HtbError(f"{step.interface}: tc {step.verb} of {step.what}: {error}") from error


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def run(command: list[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(command)
        return code, out, err

    try:
        if params["confirm"]:
            module.exit_json(**commit_confirm.confirm_result(CONCERN, run, check=module.check_mode))
        if importlib.util.find_spec("pyroute2") is None:
            if module.check_mode:
                module.exit_json(**commit_confirm.unknown_yet("python3-pyroute2"))
            raise htb.HtbError("python3-pyroute2 is not installed: install the Debian package")
        from pyroute2 import IPRoute

        with IPRoute() as netlink:
            steps = planned(params["interfaces"], netlink)
            if steps and not module.check_mode:
                commit_confirm.change(
                    CONCERN, lambda: carry_out(steps, netlink), run=run, within_s=params["confirm_within"],
                    undo=[command for step in reversed(steps) for command in step.undo],
                )  # fmt: skip
    except (htb.HtbError, commit_confirm.ConfirmError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        **commit_confirm.result(
            [f"{one.interface} {one.what}: {one.before or 'none'} -> {one.after or 'none'}" for one in steps],
            [one.line(one.before) for one in steps],
            [one.line(one.after) for one in steps],
            unconfirmed=bool(steps) and params["confirm_within"] > 0,
        )
    )


if __name__ == "__main__":
    main()
