#!/usr/bin/python
"""Set up network interfaces: channels, rings, MTU, offloads, coalescing, RSS, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nic
short_description: Channels, rings, MTU, offloads, coalescing and RSS of network interfaces
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Takes the wanted state of all interfaces of a host and changes what differs. What a driver cannot do is
    refused before anything is changed, with every impossible wish named.
  - With O(confirm_within), a timer of systemd puts everything back unless a second call with O(confirm)
    reaches the host over a new connection. What cuts a host off is so taken back by itself.
  - Settings do not survive a boot; the role C(nic) applies them again then.
options:
  interfaces:
    description: The interfaces; what is not given is left as it is.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      mtu:
        description: Largest packet, in bytes.
        type: int
      channels:
        description: Queues. A number, or V(max) for what the driver offers.
        type: dict
        suboptions:
          combined:
            description: Queues that receive and send.
            type: str
          rx:
            description: Queues that receive.
            type: str
          tx:
            description: Queues that send.
            type: str
      rings:
        description: Descriptors of each queue. A number, or V(max).
        type: dict
        suboptions:
          rx:
            description: Of a receiving queue.
            type: str
          tx:
            description: Of a sending queue.
            type: str
      offloads:
        description: Offloads by the name that C(ethtool -K) takes, such as C(gro) or C(rxvlan).
        type: dict
        default: {}
      coalesce:
        description: How long the device gathers packets before it interrupts.
        type: dict
        suboptions:
          adaptive_rx:
            description: The driver adapts to what arrives.
            type: bool
          adaptive_tx:
            description: The driver adapts to what is sent.
            type: bool
          rx_usecs:
            description: Microseconds after a packet arrived.
            type: int
          rx_frames:
            description: Packets.
            type: int
          tx_usecs:
            description: Microseconds after a packet was sent.
            type: int
          tx_frames:
            description: Packets.
            type: int
      rss_queues:
        description: Receive packets on that many queues, evenly. A number, or V(max).
        type: str
extends_documentation_fragment: marchproxy.edge.commit_confirm
attributes:
  check_mode:
    description: The same plan, not carried out.
    support: full
  diff_mode:
    description: One line per setting.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: As many queues as the driver has, no batching, and a way back
  marchproxy.edge.nic:
    interfaces:
      - name: ens5
        channels: {combined: max}
        coalesce: {adaptive_rx: false, rx_usecs: 20}
        offloads: {lro: false, rxvlan: false}
    confirm_within: 60

- name: Reach the host anew
  ansible.builtin.meta: reset_connection

- name: Keep it
  marchproxy.edge.nic:
    confirm: true
"""

RETURN = r"""
actions:
  description: What was changed, or would be.
  returned: always
  type: list
  elements: str
  sample: ["ens5 channels: combined 4 -> combined 8"]
unconfirmed:
  description: Whether the change waits to be confirmed.
  returned: always
  type: bool
"""

import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils import commit_confirm
from ansible_collections.marchproxy.edge.plugins.module_utils.ethtool import NicError, gather
from ansible_collections.marchproxy.edge.plugins.module_utils.nic_plan import Action, carry_out, plan

CONCERN = "nic"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COUNT = {"type": "str"}
ARGUMENTS: dict[str, Any] = {
    "interfaces": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "mtu": {"type": "int"},
            "channels": {"type": "dict", "options": {"combined": _COUNT, "rx": _COUNT, "tx": _COUNT}},
            "rings": {"type": "dict", "options": {"rx": _COUNT, "tx": _COUNT}},
            "offloads": {"type": "dict", "default": {}},
            "coalesce": {
                "type": "dict",
                "options": {
                    "adaptive_rx": {"type": "bool"},
                    "adaptive_tx": {"type": "bool"},
                    "rx_usecs": {"type": "int"},
                    "rx_frames": {"type": "int"},
                    "tx_usecs": {"type": "int"},
                    "tx_frames": {"type": "int"},
                },
            },
            "rss_queues": _COUNT,
        },
    },
    **commit_confirm.OPTIONS,
}


def planned(interfaces: list[dict[str, Any]], run: commit_confirm.Run) -> list[Action]:
    """The plan of all interfaces; NicError names the impossible wishes of every one at once."""
    actions: list[Action] = []
    problems: list[str] = []
    for wanted in interfaces:
        try:
            actions += plan(gather(wanted["name"], run), wanted)
        except NicError as error:
            problems.append(str(error))
    if problems:
        raise NicError("; ".join(problems))
    return actions


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def run(command: list[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(command, handle_exceptions=False)
        return code, out, err

    try:
        if params["confirm"]:
            module.exit_json(**commit_confirm.confirm_result(CONCERN, run, check=module.check_mode))
        if module.check_mode and params["interfaces"] and shutil.which("ethtool", path=PATH) is None:
            module.exit_json(**commit_confirm.unknown_yet("ethtool"))
        actions = planned(params["interfaces"], run)
        if actions and not module.check_mode:
            commit_confirm.change(
                CONCERN, lambda: carry_out(actions, run), run=run, within_s=params["confirm_within"],
                undo=[action.undo for action in reversed(actions)],
            )  # fmt: skip
    except (NicError, commit_confirm.ConfirmError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'ethtool'}: {error.strerror}; install the package ethtool")
    module.exit_json(
        **commit_confirm.result(
            [f"{one.interface} {one.what}: {one.before} -> {one.after}" for one in actions],
            [one.line(one.before) for one in actions],
            [one.line(one.after) for one in actions],
            unconfirmed=bool(actions) and params["confirm_within"] > 0,
        )
    )


if __name__ == "__main__":
    main()
