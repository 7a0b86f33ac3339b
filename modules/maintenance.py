#!/usr/bin/python
"""Take backends of a cloud, region, zone or host out for the moment, or bring them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Take backends out for the moment, and bring them back
description:
  - Asks control on the host it runs on to open or end a maintenance window beside those of the inventory.
  - Backends it names get no new request; when it is over they come back by the ramp of each service's
    steering.failback. Services that would be left without any endpoint are named and refused.
  - A window that is open already stays as it is. To change its end, end it first.
attributes:
  check_mode:
    description: Says what would change, and changes nothing. What control would refuse is not found out.
    support: full
  diff_mode:
    description: Shows the windows open before and after.
    support: full
options:
  state:
    description: V(out) opens the window, V(back) ends it.
    type: str
    choices: [out, back]
    default: out
  cloud:
    description: Cloud taken out.
    type: str
  region:
    description: Region taken out.
    type: str
  zone:
    description: Zone taken out.
    type: str
  host:
    description: Backend host taken out, as the inventory names it.
    type: str
  minutes:
    description: Until it comes back by itself.
    type: int
    default: 60
  reason:
    description: Why; goes to the audit.
    type: str
    default: drained by a playbook
  allow_outage:
    description: Services that may be left without any endpoint.
    type: list
    elements: str
    default: []
  author:
    description: Who asks, for the audit.
    type: str
    default: ""
  socket:
    description: Control's Unix socket on this host.
    type: path
    default: /run/marchproxy/control.sock
author: MarchProxy
"""

EXAMPLES = r"""
- name: Evacuate a cloud for half an hour
  marchproxy.edge.maintenance:
    cloud: gcp
    minutes: 30
    reason: CHG-812
"""

RETURN = r"""
windows:
  description: What is drained by hand now, each with name, until and reason.
  returned: success
  type: list
  elements: dict
"""

import datetime as dt
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils.control_socket import ControlError, request

_PLACES = ("cloud", "region", "zone", "host")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["out", "back"], "default": "out"},
            **{name: {"type": "str"} for name in _PLACES},
            "minutes": {"type": "int", "default": 60},
            "reason": {"type": "str", "default": "drained by a playbook"},
            "allow_outage": {"type": "list", "elements": "str", "default": []},
            "author": {"type": "str", "default": ""},
            "socket": {"type": "path", "default": "/run/marchproxy/control.sock"},
        },
        required_one_of=[_PLACES],
        supports_check_mode=True,
    )
    given = {name: module.params[name] for name in _PLACES if module.params[name]}
    name = ",".join(f"{key}={given[key]}" for key in _PLACES if key in given)
    try:
        before = windows = request(module.params["socket"], "GET", "/v1/maintenance")["windows"]
        is_out = any(one["name"] == name for one in windows)
        changed = is_out is (module.params["state"] == "back")
        if changed and not module.check_mode:
            windows = _change(module.params, given, name)["windows"]
    except ControlError as error:
        module.fail_json(msg=str(error), kind=error.kind)
    after = windows if not module.check_mode or not changed else _expected(before, name, module.params)
    diff = {"before": _lines(before), "after": _lines(after)}
    module.exit_json(changed=changed, windows=windows, diff=diff)


def _expected(before: list[dict[str, str]], name: str, params: dict[str, Any]) -> list[dict[str, str]]:
    rest = [one for one in before if one["name"] != name]
    return rest if params["state"] == "back" else [*rest, {"name": name, "reason": params["reason"]}]


def _lines(windows: list[dict[str, str]]) -> str:
    return "".join(
        f"{one['name']}: {one['reason']}\n" for one in sorted(windows, key=lambda one: one["name"])
    )


def _change(params: dict[str, Any], given: dict[str, str], name: str) -> Any:
    who = {"author": params["author"]}
    if params["state"] == "back":
        return request(params["socket"], "POST", "/v1/maintenance/end", {"name": name, **who})
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=params["minutes"])
    more = {"until": until.isoformat(), "reason": params["reason"], "allow_outage": params["allow_outage"]}
    return request(params["socket"], "POST", "/v1/maintenance", {**given, **more, **who})


if __name__ == "__main__":
    main()
