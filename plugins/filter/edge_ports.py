"""What of the edge decides how hosts are provisioned: ports and ceilings."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge_ports
short_description: Ports and ceilings of the edge
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Reduces the variable C(edge), which may hold thousands of services, to what roles need of it. Pure.
options:
  _input:
    description: The variable C(edge) of the control group.
    type: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.set_fact:
    host_edge_ports_seen: "{{ hostvars[groups.control[0]].edge | marchproxy.edge.edge_ports }}"
"""

RETURN = r"""
_value:
  description: >-
    The keys of C(edge.ports) that are given, C(connections) of C(edge.limits), and C(services), the ports on
    which tcp and udp services listen on the proxies.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any


def edge_ports(edge: Mapping[str, Any]) -> dict[str, Any]:
    """Ports of the proxies themselves, ports of tcp and udp services, the ceiling of connections."""
    given = {name: port for name, port in (edge.get("ports") or {}).items() if port is not None}
    limits = edge.get("limits") or {}
    if limits.get("connections") is not None:
        given["connections"] = limits["connections"]
    services = []
    for service in edge.get("services") or []:
        listen = service.get("listen") or {}
        if service.get("protocol") in ("tcp", "udp") and "port" in listen:
            use = f"service {service.get('name')}"
            services.append({"port": listen["port"], "protocol": service["protocol"], "use": use})
    return given | {"services": services}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"edge_ports": edge_ports}
