#!/usr/bin/python
"""One look at how packets reach the CPUs of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: topology_facts
short_description: Network cards, queues, NUMA nodes and interrupts of a host, in one look
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Reads NUMA nodes, and of each physical or virtual Ethernet interface its driver, MTU, queues, rings, the
    CPUs beside it, which CPU each queue's interrupt goes to, what is attached by XDP, and what stands
    against native XDP. The answer is the fact C(marchproxy_topology).
  - With O(contract), interfaces are compared with what was promised of them (the C(nic) of a Pulumi stack's
    host), and every difference is named with both values.
options:
  contract:
    description: What an interface has to be; what is not given is not compared.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface; empty is the one of the default route.
        type: str
        default: ""
      driver:
        description: Its driver.
        type: str
      queues:
        description: At least that many receive queues can be had.
        type: int
      mtu:
        description: Its MTU.
        type: int
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Reads only.
    support: none
  facts:
    description: Sets C(marchproxy_topology).
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Is the host what the stack promised?
  marchproxy.edge.topology_facts:
    contract: ["{{ nic }}"]
"""

RETURN = r"""
ansible_facts:
  description: The fact C(marchproxy_topology).
  returned: always
  type: dict
  contains:
    marchproxy_topology:
      description: C(numa_nodes), C(irqbalance), C(default_interface), C(nics), and C(breaches) of the
        contract.
      type: dict
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.marchproxy.edge.plugins.module_utils import affinity, ethtool, xdp_conditions

ARGUMENTS: dict[str, Any] = {
    "contract": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "default": ""},
            "driver": {"type": "str"},
            "queues": {"type": "int"},
            "mtu": {"type": "int"},
        },
    },
}
_ETHERNET = "1"


def breaches(
    contract: list[Mapping[str, Any]], nics: Mapping[str, Mapping[str, Any]], default: str
) -> list[str]:
    """Each difference between what was promised and what is there, with both values. Pure."""
    found = []
    for promised in contract:
        name = promised["name"] or default
        nic = nics.get(name)
        if nic is None:
            there = ", ".join(sorted(nics)) or "none"
            found.append(f"interface {name or '(of the default route)'} was promised; there are: {there}")
            continue
        most = max(nic["queues_max"], nic["queues"])
        if promised["driver"] is not None and promised["driver"] != nic["driver"]:
            found.append(f"{name}: driver {promised['driver']} was promised, it is {nic['driver'] or 'none'}")
        if promised["mtu"] is not None and promised["mtu"] != nic["mtu"]:
            found.append(f"{name}: MTU {promised['mtu']} was promised, it is {nic['mtu']}")
        if promised["queues"] is not None and promised["queues"] > most:
            found.append(f"{name}: {promised['queues']} queues were promised, it has {most}")
    return found


def nic_facts(
    nic: ethtool.Nic, queues: affinity.Queues, below_netvsc: bool, xdp: Mapping[str, Any]
) -> dict[str, Any]:
    """What the fact says of one interface. Pure."""
    used = nic.channels.get("combined", 0) or nic.channels.get("rx", 0)
    most = nic.channels_max.get("combined", 0) or nic.channels_max.get("rx", 0)
    return {
        "driver": nic.driver,
        "mtu": nic.mtu,
        "queues": max(used, len(queues.rps)),
        "queues_max": most,
        "rings": nic.rings,
        "rings_max": nic.rings_max,
        "numa_node": queues.numa_node,
        "local_cpus": list(queues.local_cpus),
        "interrupts": {
            str(number): {"queue": queue, "cpus": cpus} for number, (queue, cpus) in queues.interrupts.items()
        },
        "xdp": dict(xdp),
        "xdp_obstacles": xdp_conditions.obstacles(
            nic.driver, mtu=nic.mtu, channels=used, channels_max=most, below_netvsc=below_netvsc
        ),
    }


def attached(link: Mapping[str, Any]) -> dict[str, Any]:
    """What `ip -json link` says is attached by XDP: mode and the program's number."""
    xdp = link.get("xdp") or {}
    modes = {1: "native", 2: "generic", 3: "offloaded", 4: "several"}
    program: Mapping[str, Any] = (
        xdp.get("prog") or next((one.get("prog") for one in xdp.get("attached", [])), {}) or {}
    )
    return {"mode": modes.get(xdp.get("mode", 0), "none"), "program": program.get("id", 0)}


def _links(run: ethtool.Run) -> dict[str, dict[str, Any]]:
    code, out, _ = run(["ip", "-json", "-details", "link", "show"])
    return {one["ifname"]: one for one in json.loads(out or "[]")} if code == 0 else {}


def _default_interface(run: ethtool.Run) -> str:
    code, out, _ = run(["ip", "-json", "route", "show", "default"])
    routes = json.loads(out or "[]") if code == 0 else []
    return str(routes[0].get("dev", "")) if routes else ""


def _driver(folder: Path, link: Mapping[str, Any]) -> str:
    """The driver without ethtool: of a device by its link in sysfs, of a virtual interface by its kind."""
    device = folder / "device/driver"
    return device.resolve().name if device.exists() else str(link.get("linkinfo", {}).get("info_kind", ""))


def _is_ethernet(folder: Path) -> bool:
    try:
        return (folder / "type").read_text(encoding="ascii").strip() == _ETHERNET and folder.name != "lo"
    except OSError:
        return False


def gather(run: ethtool.Run, contract: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The fact."""
    links, default = _links(run), _default_interface(run)
    nics = {}
    for folder in sorted(Path("/sys/class/net").iterdir()):
        if _is_ethernet(folder):
            name, link = folder.name, links.get(folder.name, {})
            nic = ethtool.gather(name, run)
            nic = replace(nic, driver=nic.driver or _driver(folder, link))
            below_netvsc = (folder / "master").exists()
            nics[name] = nic_facts(nic, affinity.gather(name), below_netvsc, attached(link))
    return {
        "numa_nodes": list(affinity.numa_nodes()),
        "irqbalance": run(["systemctl", "is-active", "--quiet", "irqbalance.service"])[0] == 0,
        "default_interface": default,
        "nics": nics,
        "breaches": breaches(contract, nics, default),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(command: list[str]) -> tuple[int, str, str]:
        try:
            code, out, err = module.run_command(command, handle_exceptions=False)
        except OSError as error:
            # Without ethtool there is less to say, and still enough to decide by.
            return 127, "", str(error.strerror)
        return code, out, err

    facts = gather(run, module.params["contract"])
    module.exit_json(changed=False, ansible_facts={"marchproxy_topology": facts})


if __name__ == "__main__":
    main()
