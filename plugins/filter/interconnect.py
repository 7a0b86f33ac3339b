"""What a host gets of the mesh between clouds."""

from __future__ import annotations

DOCUMENTATION = r"""
name: interconnect
short_description: What a host gets of the mesh between clouds
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Works out from the inventory which tunnels and routes a host needs (role C(interconnect)). Pure.
options:
  _input:
    description: The inventory's C(interconnect), with its C(networks).
    type: dict
    required: true
  host:
    description: Name of the host.
    type: str
    required: true
  hostvars:
    description: C(hostvars).
    type: dict
    required: true
  ingress:
    description: Hosts of group C(ingress).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ interconnect | marchproxy.edge.interconnect(host=inventory_hostname, hostvars=hostvars,
      ingress=groups.ingress) }}"
"""

RETURN = r"""
_value:
  description: Keys C(config) (null for a host that gets nothing), C(gateway) and C(unknown), gateways whose
    public key no one has asked for in this run.
  type: dict
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.marchproxy.edge.plugins.module_utils import interconnect as mesh


def _place(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('cloud', '')}/{facts.get('region', '')}"


def _private(name: str, facts: Mapping[str, Any]) -> str:
    address = facts.get("private_address") or facts.get("address")
    if not address:
        raise AnsibleFilterError(f"host {name} has no address; give it `address` (and `private_address`)")
    return str(address)


def _peer(name: str, facts: Mapping[str, Any]) -> mesh.Peer:
    seen = facts.get("marchproxy_interconnect") or {}
    mtu = seen.get("mtu") or mesh.INTERNET_MTU
    endpoint = facts.get("interconnect_endpoint") or facts.get("address") or _private(name, facts)
    try:
        ipaddress.ip_address(str(endpoint))
    except ValueError:
        raise AnsibleFilterError(
            f"host {name}: tunnels end at '{endpoint}', no IP address; give it interconnect_endpoint"
        ) from None
    return mesh.Peer(name, str(endpoint), _private(name, facts), seen.get("public_key") or "", int(mtu))


def interconnect(
    said: Mapping[str, Any], host: str, hostvars: Mapping[str, Any], ingress: Sequence[str]
) -> dict[str, Any]:
    """The host's part of the mesh; AnsibleFilterError with every mistake of the inventory."""
    edges: dict[str, list[str]] = {}
    for name in ingress:
        edges.setdefault(_place(hostvars[name]), []).append(name)
    try:
        networks = mesh.networks(said.get("networks") or (), edges)
    except mesh.InterconnectError as problem:
        raise AnsibleFilterError(str(problem)) from None
    facts = hostvars[host]
    own = mesh.Host(
        name=host, cloud=str(facts.get("cloud", "")), region=str(facts.get("region", "")),
        address=_private(host, facts), routes=said.get("routes", "host") == "host",
    )  # fmt: skip
    peers = {name: _peer(name, hostvars[name]) for one in networks for name in one.gateways}
    planned = mesh.plan(own, networks, peers)
    return {"config": planned.config, "gateway": planned.gateway, "unknown": list(planned.unknown)}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        return {"interconnect": interconnect}
