#!/usr/bin/python
"""Give every queue of an interface a CPU of the interface's own NUMA node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: irq_affinity
short_description: Interrupts, RPS and XPS of network interfaces by NUMA node
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Queue N of an interface is served by the N-th CPU of the interface's NUMA node - its interrupt goes
    there, and what that CPU sends leaves by the queue of the same number (XPS). Where there are fewer
    receive queues than CPUs, RPS spreads packets over the others.
  - What the kernel refuses, such as interrupts that a device manages by itself, is named and does not fail.
  - Settings do not survive a boot; the role C(nic) applies them again then. C(irqbalance) would undo them;
    the role keeps it away from the drivers of these interfaces.
options:
  interfaces:
    description: The interfaces.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      cpus:
        description: CPUs that serve it, such as V(0-3,8). The default is those of its NUMA node.
        type: str
        default: ""
attributes:
  check_mode:
    description: The same plan, not carried out.
    support: full
  diff_mode:
    description: One line per interrupt and queue.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: The CPUs beside the card serve it
  marchproxy.edge.irq_affinity:
    interfaces: [{name: ens5}]
"""

RETURN = r"""
actions:
  description: What was changed, or would be.
  returned: always
  type: list
  elements: str
  sample: ["ens5 interrupt 38 (queue 0): 0-7 -> 0"]
refused:
  description: What the kernel does not let anybody set.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils.affinity import (
    AffinityError,
    Setting,
    apply,
    cpus_of,
    gather,
    plan,
)

ARGUMENTS: dict[str, Any] = {
    "interfaces": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "cpus": {"type": "str", "default": ""}},
    },
}


def planned(interfaces: list[dict[str, Any]]) -> list[Setting]:
    """The plan of all interfaces; AffinityError names every mistake at once."""
    settings: list[Setting] = []
    problems: list[str] = []
    for wanted in interfaces:
        try:
            settings += plan(gather(wanted["name"]), cpus_of(wanted["cpus"]))
        except AffinityError as error:
            problems.append(str(error))
    if problems:
        raise AffinityError("; ".join(problems))
    return settings


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        settings = planned(module.params["interfaces"])
    except AffinityError as error:
        module.fail_json(msg=str(error))
    refused = [] if module.check_mode else apply(settings)
    done = [one for one in settings if not any(one.path in words for words in refused)]
    module.exit_json(
        changed=bool(done),
        actions=[f"{one.interface} {one.what}: {one.before or 'none'} -> {one.after}" for one in done],
        refused=refused,
        diff={
            "before": "".join(f"{one.line(one.before)}\n" for one in done),
            "after": "".join(f"{one.line(one.after)}\n" for one in done),
        },
    )


if __name__ == "__main__":
    main()
