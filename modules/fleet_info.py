#!/usr/bin/python
"""What the fleet holds: the live revision and each proxy's state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: What is live, and what each proxy holds
version_added: 0.1.0
description:
  - Asks the control agent over its Unix socket. Run it on a host of group C(control).
options:
  socket:
    description: The control agent's Unix socket.
    type: path
    default: /run/marchproxy/control.sock
  history:
    description: How many of the latest revisions to return.
    type: int
    default: 0
attributes:
  check_mode:
    description: Never changes anything.
    support: full
  diff_mode:
    description: Never changes anything.
    support: none
author:
  - MarchProxy developers
"""

EXAMPLES = r"""
- name: Ask what is live
  marchproxy.edge.fleet_info:
    history: 5
  register: fleet
  run_once: true
"""

RETURN = r"""
status:
  description: The live revision, the proxies and their state, certificates, the audit's newest hash.
  returned: success
  type: dict
history:
  description: The latest revisions, newest first.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils.control_socket import ControlError, request


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "default": "/run/marchproxy/control.sock"},
            "history": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    path, count = module.params["socket"], module.params["history"]
    try:
        status = request(path, "GET", "/v1/status")
        history = request(path, "GET", f"/v1/history?limit={count}")["revisions"] if count > 0 else []
    except ControlError as error:
        if error.kind == "absent" and module.check_mode:
            module.exit_json(changed=False, status={}, history=[], absent=True)
        module.fail_json(msg=str(error), kind=error.kind)
    module.exit_json(changed=False, status=status, history=history)


if __name__ == "__main__":
    main()
