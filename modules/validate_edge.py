#!/usr/bin/python
"""Documentation of marchproxy.edge.validate_edge, which runs on the controller (plugins/action)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_edge
short_description: Check the edge in the inventory, all problems at once
version_added: 0.1.0
description:
  - Gathers the edge and the hosts' place in the clouds from the inventory and checks all of it on the
    controller. No connection is made.
  - Fails listing every problem with file, line, what is wrong and the fix.
options:
  require_control:
    description: Fail when C(--limit) leaves out every control host. A play on C(hosts=control) would then
      match no host and succeed; put this task into a first play on all hosts.
    type: bool
    default: true
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
- name: Check the inventory
  hosts: all
  gather_facts: false
  tasks:
    - name: Validate
      marchproxy.edge.validate_edge:
      run_once: true
"""

RETURN = r"""
problems:
  description: Each with path, message, fix and origin.
  returned: failure
  type: list
  elements: dict
notes:
  description: What the inventory says and this version does not act on yet.
  returned: success
  type: list
  elements: str
counts:
  description: How many of each kind the edge holds.
  returned: success
  type: dict
"""
