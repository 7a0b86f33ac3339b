"""From which addresses edges send what they encapsulate."""

from __future__ import annotations

DOCUMENTATION = r"""
name: tunnel_edges
short_description: From which addresses edges send what they encapsulate
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - An edge sends from its own address on its network, C(private_address), and from C(address) where it has no
    other; over IPv6 from C(address6). Pure.
options:
  _input:
    description: Names of the edges (group C(l4)).
    type: list
    elements: str
    required: true
  hostvars:
    description: C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ groups.l4 | marchproxy.edge.tunnel_edges(hostvars=hostvars) }}"
"""

RETURN = r"""
_value:
  description: The addresses, sorted.
  type: list
  elements: str
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def _address(name: str, key: str, value: Any) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise AnsibleFilterError(
            f"host {name}: {key} {str(value)!r} is no IP address, and backends take what edges send alone; "
            "give it `private_address`, or say decap_edges"
        ) from None


def tunnel_edges(names: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """AnsibleFilterError for a host of which no address is known: its packets would all be dropped."""
    if not names:
        raise AnsibleFilterError("no host is in group l4, so nobody may encapsulate; say decap_edges")
    found = set()
    for name in names:
        facts = hostvars[name]
        key = next((one for one in ("private_address", "address") if facts.get(one)), None)
        if key is None:
            raise AnsibleFilterError(
                f"host {name} of group l4 has neither private_address nor address; "
                "give it one, or say decap_edges"
            )
        found.add(_address(name, key, facts[key]))
        if facts.get("address6"):
            found.add(_address(name, "address6", facts["address6"]))
    return sorted(found)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        return {"tunnel_edges": tunnel_edges}
