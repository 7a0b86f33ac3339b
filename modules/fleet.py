#!/usr/bin/python
"""Brings the edge described in the inventory live on every proxy, or says what that would change."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet
short_description: Bring the edge in the inventory live on every proxy
version_added: 0.1.0
description:
  - Hands the whole edge (services, routes, domains, certificates and the proxies' place in the clouds) to the
    control agent, which validates and compiles it, compares it with what is live, stores it as a revision,
    publishes it and waits until every connected proxy has acknowledged or refused it.
  - Runs once per play on a host of group C(control), over the agent's Unix socket. Everything is gathered
    on the controller from the whole inventory, so C(--limit) never makes the view smaller.
  - When any proxy refuses the revision, the one before is published again and the task fails with Envoy's
    words and the line of the inventory that caused them.
  - The document travels in a private file, never among the task's arguments, so no verbosity shows a secret.
options:
  reason:
    description: Why, for the history; a ticket number serves well.
    type: str
    default: ""
  allow_removal:
    description:
      - Names of services and proxies that may disappear, and of services that may lose more than a tenth of
        their endpoints. Without it such a change is refused, since an incomplete inventory looks the same.
    type: list
    elements: str
    default: []
  force:
    description: Try again what was refused before, unchanged.
    type: bool
    default: false
  plan:
    description: >-
      Apply only what was reviewed under this name, as check mode or C(xds-agent diff --against) printed it;
      refused when the inventory or what is live has moved since.
    type: str
    default: ""
  drift:
    description: >-
      In check mode, let control count what differs for its alert on drift; playbooks/drift.yml sets it.
    type: bool
    default: false
  wait:
    description: Seconds to wait for somebody else's change to end; 0 fails at once, saying who is at it.
    type: int
    default: 0
  skip_bad:
    description:
      - When the shadow on the control host refuses the change, find the services, domains, routes or
        certificates it refuses, leave them as they are live, and go on with the rest. They are named in a
        warning, and in C(xds-agent status) until they are mended.
    type: bool
    default: false
  rollback_to:
    description: Bring this earlier revision back instead of the inventory.
    type: int
  timeout:
    description: Seconds to wait for the acknowledgements of each wave of proxies.
    type: int
    default: 60
  socket:
    description: The control agent's Unix socket; its Unix group decides for whose tenants one may speak.
    type: path
    default: /run/marchproxy/control.sock
  author:
    description: Who, for the history; set by the action part to user and host of the controller.
    type: str
    default: ""
  commit:
    description: Commit of the inventory's repository; set by the action part.
    type: str
    default: ""
  document_file:
    description: Where the action part put the document on the control host; removed after reading.
    type: path
attributes:
  check_mode:
    description: Says what would change, compared with what is live, and changes nothing.
    support: full
  diff_mode:
    description: One line in plain words per change and the proxies it reaches; ends in one sentence.
    support: full
author:
  - MarchProxy developers
"""

EXAMPLES = r"""
- name: Bring the inventory live
  marchproxy.edge.fleet:
    reason: CHG-812
  run_once: true

- name: Let one service go
  marchproxy.edge.fleet:
    allow_removal: [old-shop]
  run_once: true

- name: Return to revision 41
  marchproxy.edge.fleet:
    rollback_to: 41
    reason: INC-2207
  run_once: true
"""

RETURN = r"""
revision:
  description: Content hash of the revision; equal inventories have equal ones.
  returned: success
  type: str
number:
  description: Number of the revision in the history; null in check mode.
  returned: success
  type: int
nodes:
  description: For each proxy its state (active, pending, refused, offline), its revision and last error.
  returned: always, once control has answered
  type: dict
lines:
  description: The change in words, each with the proxies it reaches.
  returned: success
  type: list
  elements: dict
summary:
  description: The closing sentence.
  returned: success
  type: str
  sample: 3 services, 6 proxies, 0 connections closed
plan:
  description: Name of the way from what is live to this inventory, for O(plan).
  returned: success, in check mode
  type: str
notes:
  description: What the inventory says and this version does not act on yet.
  returned: success
  type: list
  elements: str
problems:
  description: What was refused, each with path, message, fix and origin in the inventory's files.
  returned: failure
  type: list
  elements: dict
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils.control_socket import ControlError, request
from ansible_collections.marchproxy.edge.plugins.module_utils.fleet_text import (
    bare,
    diff_text,
    failure,
    warnings_of,
)

SPEC = {
    "reason": {"type": "str", "default": ""},
    "allow_removal": {"type": "list", "elements": "str", "default": []},
    "force": {"type": "bool", "default": False},
    "skip_bad": {"type": "bool", "default": False},
    "plan": {"type": "str", "default": ""},
    "drift": {"type": "bool", "default": False},
    "wait": {"type": "int", "default": 0},
    "rollback_to": {"type": "int"},
    "timeout": {"type": "int", "default": 60},
    "socket": {"type": "path", "default": "/run/marchproxy/control.sock"},
    "author": {"type": "str", "default": ""},
    "commit": {"type": "str", "default": ""},
    "document_file": {"type": "path"},
}

# Waves soak for as long as the inventory says. A control that dies is noticed at once, whatever this is.
ROLLOUT_S = 3600.0


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        mutually_exclusive=[["rollback_to", "document_file"]],
        required_one_of=[["rollback_to", "document_file"]],
    )
    params = module.params
    body = {
        "author": params["author"],
        "reason": params["reason"],
        "dry_run": module.check_mode,
        "allow_removal": params["allow_removal"],
        "force": params["force"],
        "timeout_s": params["timeout"],
        "wait_s": params["wait"],
    }
    if params["skip_bad"]:
        # A control host of the version before does not know it, and need not.
        body["skip_bad"] = True
    try:
        if params["rollback_to"] is not None:
            target = "/v1/rollback"
            body["number"] = params["rollback_to"]
        else:
            target = "/v1/revisions"
            body.update(document=taken(params["document_file"]), commit=params["commit"], plan=params["plan"])
            body["drift"] = params["drift"]
        patience_s = params["wait"] + params["timeout"] + ROLLOUT_S
        answer = request(params["socket"], "POST", target, body, timeout=patience_s)
    except ControlError as error:
        if error.kind == "absent" and module.check_mode:
            module.exit_json(changed=True, absent=True, summary=str(error))
        module.fail_json(
            msg=str(error),
            kind=error.kind,
            problems=bare(error.answer.get("problems", [])),
            nodes=error.answer.get("nodes", {}),
        )
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the document could not be read on the control host: {error}")

    for warning in warnings_of(answer):
        module.warn(warning)
    result = {key: answer.get(key) for key in ("revision", "number", "nodes", "lines", "summary", "notes")}
    if module.check_mode and answer.get("plan"):
        result["plan"] = answer["plan"]
    result["changed"] = bool(answer["changed"])
    if result["changed"]:
        result["diff"] = [{"prepared": diff_text(answer)}]
    words = None if module.check_mode else failure(answer)
    if words:
        module.fail_json(msg=words, problems=bare(answer.get("problems", [])), **result)
    module.exit_json(**result)


def taken(path: str) -> object:
    """The document at `path`, which is removed: it may hold secrets."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    finally:
        Path(path).unlink()


if __name__ == "__main__":
    main()
