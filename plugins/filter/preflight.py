"""What stands against provisioning a host, in sentences."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight
short_description: What stands against provisioning a host, in sentences
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Compares what M(marchproxy.edge.host_facts) saw with what the roles need. Asks the host nothing.
options:
  _input:
    description: The fact C(marchproxy_host).
    type: dict
    required: true
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
  ports:
    description: Ports our processes will hold, each with C(port), C(protocol) and C(use).
    type: list
    elements: dict
    required: true
  supported:
    description: Mapping of a distribution to its accepted versions.
    type: dict
    required: true
  kernel:
    description: Oldest kernel.
    type: str
    required: true
  disk_mb:
    description: Free space needed below /opt, in MiB.
    type: int
    required: true
  ignore:
    description: Concerns left out (name, distribution, arch, kernel, systemd, disk, ports, firewall).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
# - "tcp port 80 (HTTP) is held by nginx (process 812, nginx.service) on 0.0.0.0: stop it, or give ..."
- ansible.builtin.debug:
    msg: "{{ marchproxy_host | marchproxy.edge.preflight(host=inventory_hostname, ports=host_ports,
      supported=host_supported, kernel=host_kernel, disk_mb=host_disk_mb) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each thing that stands against it; empty when nothing does.
  type: list
  elements: str
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# Units of ours: a port they hold is where it belongs.
OURS = {
    "envoy.service",
    "marchproxy-backend.service",
    "xds-agent-node.service",
    "xds-agent-serve.service",
}
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ARCHITECTURES = ("x86_64", "aarch64")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _name(facts: Mapping[str, Any], host: str, **_: Any) -> Iterator[str]:
    if not _HOST_NAME.fullmatch(host):
        yield f"the name {host!r} cannot stand in a certificate: use small letters, digits, dots and hyphens"


def _distribution(
    facts: Mapping[str, Any], supported: Mapping[str, Sequence[str]], **_: Any
) -> Iterator[str]:
    found = facts["distribution"]
    if found["version"] not in [str(version) for version in supported.get(found["id"], ())]:
        known = ", ".join(f"{name} {'/'.join(map(str, versions))}" for name, versions in supported.items())
        yield (
            f"{found['name'] or 'an unknown distribution'} is not supported ({known} is): "
            "extend host_supported if you have tried it"
        )


def _arch(facts: Mapping[str, Any], **_: Any) -> Iterator[str]:
    if facts["arch"] not in _ARCHITECTURES:
        yield f"machine type {facts['arch']} has no Envoy: {' or '.join(_ARCHITECTURES)} is needed"


def _kernel(facts: Mapping[str, Any], kernel: str, **_: Any) -> Iterator[str]:
    if _version(facts["kernel"]) < _version(kernel):
        yield f"kernel {facts['kernel']} is older than {kernel}: install a newer one"


def _systemd(facts: Mapping[str, Any], **_: Any) -> Iterator[str]:
    if not facts["systemd"]:
        yield "the first process is not systemd: our services are systemd units"


def _disk(facts: Mapping[str, Any], disk_mb: int, **_: Any) -> Iterator[str]:
    # What is installed already has taken its part.
    installed = any(stamp for stamp in facts["stamps"].values())
    if not installed and facts["disk_free_mb"] < disk_mb:
        yield f"/opt has {facts['disk_free_mb']} MiB free and {disk_mb} are needed: make room"


def _ports(
    facts: Mapping[str, Any], ports: Sequence[Mapping[str, Any]], own_units: Sequence[str], **_: Any
) -> Iterator[str]:
    for wanted in ports:
        for found in facts["listeners"]:
            same = (found["protocol"], found["port"]) == (wanted["protocol"], wanted["port"])
            if not same or found["unit"] in OURS or found["unit"] in own_units:
                continue
            holder = found["process"] or "a process that ss does not name"
            details = [f"process {found['pid']}"] if found["pid"] else []
            details += [found["unit"]] if found["unit"] else []
            where = f" ({', '.join(details)})" if details else ""
            yield (
                f"{wanted['protocol']} port {wanted['port']} ({wanted['use']}) is held by {holder}{where} on "
                f"{found['address']}: stop it, or give {wanted.get('variable', 'ours')} another port"
            )
            break


def _firewall(facts: Mapping[str, Any], ports: Sequence[Mapping[str, Any]], **_: Any) -> Iterator[str]:
    if not facts["firewall"]["drops"]:
        return
    missing = [wanted for wanted in ports if wanted["port"] not in facts["firewall"]["ports"]]
    if missing:
        listed = ", ".join(f"{wanted['protocol']} {wanted['port']} ({wanted['use']})" for wanted in missing)
        yield f"the packet filter drops what no rule accepts, and no rule names {listed}: open them"


CHECKS: Mapping[str, Callable[..., Iterator[str]]] = {
    "name": _name,
    "distribution": _distribution,
    "arch": _arch,
    "kernel": _kernel,
    "systemd": _systemd,
    "disk": _disk,
    "ports": _ports,
    "firewall": _firewall,
}


def preflight(
    facts: Mapping[str, Any],
    host: str,
    ports: Sequence[Mapping[str, Any]],
    supported: Mapping[str, Sequence[str]],
    kernel: str,
    disk_mb: int,
    ignore: Sequence[str] = (),
    own_units: Sequence[str] = (),
) -> list[str]:
    """One sentence per thing that stands against provisioning `host`."""
    given = {
        "host": host,
        "ports": ports,
        "supported": supported,
        "kernel": kernel,
        "disk_mb": disk_mb,
        "own_units": own_units,
    }
    return [
        sentence
        for concern, check in CHECKS.items()
        if concern not in ignore
        for sentence in check(facts, **given)
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preflight": preflight}
