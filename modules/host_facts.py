#!/usr/bin/python
"""One look at a host: all that our roles decide by."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: All that the roles of this collection decide by, in one look
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Reads the distribution, kernel, hardware, open ports with the process and unit that hold them, the packet
    filter's default, installed packages, kernel parameters, stamps of what is installed, and certificates.
  - It changes nothing and imports nothing beyond Python's own library, so it runs on a fresh host in check
    mode. The answer is the fact C(marchproxy_host).
options:
  sysctl:
    description: Kernel parameters whose value is wanted.
    type: list
    elements: str
    default: []
  stamps:
    description: Short text files whose content is wanted.
    type: list
    elements: path
    default: []
  digests:
    description: Files whose SHA-256 is wanted.
    type: list
    elements: path
    default: []
  certificates:
    description: PEM files of which the first certificate is wanted.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Reads only.
    support: none
  facts:
    description: Sets C(marchproxy_host).
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Look at the host
  marchproxy.edge.host_facts:
    sysctl: [net.core.somaxconn]
    stamps: [/opt/marchproxy/agent/installed]
    certificates: [/etc/marchproxy/pki/host.crt]
"""

RETURN = r"""
ansible_facts:
  description: The fact C(marchproxy_host).
  returned: always
  type: dict
  contains:
    marchproxy_host:
      description: What was seen.
      type: dict
"""

import hashlib
import os
import platform
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Run = Callable[..., tuple[int, str, str]]

_SS_USER = re.compile(r'\("(?P<process>[^"]*)",pid=(?P<pid>\d+)')


def os_release(text: str) -> dict[str, str]:
    """id, version and name of a distribution from /etc/os-release."""
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {
        "id": pairs.get("ID", "").strip("\"'"),
        "version": pairs.get("VERSION_ID", "").strip("\"'"),
        "name": pairs.get("PRETTY_NAME", "").strip("\"'"),
    }


def installed_packages(status: str) -> list[str]:
    """Names of the installed packages from dpkg's status file."""
    names = []
    for block in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line.startswith(("Package: ", "Status: "))
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            names.append(fields["Package"])
    return sorted(set(names))


def listeners(text: str, unit_of: Callable[[int], str]) -> list[dict[str, Any]]:
    """Lines of `ss -lntupH` -> protocol, address, port, process, pid and systemd unit of each."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5 or fields[0] not in ("tcp", "udp"):
            continue
        address, _, port = fields[4].rpartition(":")
        if not port.isdigit():
            continue
        user = _SS_USER.search(line)
        pid = int(user["pid"]) if user else 0
        found.append(
            {
                "protocol": fields[0],
                "address": address,
                "port": int(port),
                "process": user["process"] if user else "",
                "pid": pid,
                "unit": unit_of(pid) if pid else "",
            }
        )
    return found


def unit_from_cgroup(text: str) -> str:
    """Last service named by the lines of /proc/PID/cgroup; "" where there is none."""
    units = re.findall(r"/([^/\n]+\.service)(?=/|$)", text, flags=re.MULTILINE)
    return units[-1] if units else ""


def input_rules(nft: str, iptables: str) -> dict[str, Any]:
    """Whether the packet filter drops what no rule accepts, and the ports its rules name."""
    drops = bool(re.search(r"hook input[^}]*policy drop", nft)) or "-P INPUT DROP" in iptables
    named: set[int] = set()
    for text in re.findall(r"dport \{?([0-9, \-]+)\}?", nft) + re.findall(r"--dports? ([0-9,:]+)", iptables):
        for part in re.split(r"[, ]+", text.strip()):
            low, _, high = part.replace(":", "-").partition("-")
            if low.isdigit():
                named.update(range(int(low), (int(high) if high.isdigit() else int(low)) + 1))
    return {"drops": drops, "ports": sorted(named) if drops else []}


def certificate(text: str) -> dict[str, Any]:
    """Output of `openssl x509` as a mapping: dates, issuer, subject, serial, names, keys."""
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and ":" not in line[:8])
    names = re.search(r"Subject Alternative Name:.*\n\s*(.+)", text)
    return {
        "not_before": pairs.get("notBefore", ""),
        "not_after": pairs.get("notAfter", ""),
        "issuer": pairs.get("issuer", ""),
        "subject": pairs.get("subject", ""),
        "serial": pairs.get("serial", ""),
        "names": [name.strip() for name in names[1].split(",")] if names else [],
        "key": _key_identifier(text, "Subject"),
        "issuer_key": _key_identifier(text, "Authority"),
    }


def _key_identifier(text: str, whose: str) -> str:
    found = re.search(rf"X509v3 {whose} Key Identifier:.*\n\s*(?:keyid:)?([0-9A-F:]+)", text)
    return found[1] if found else ""


def kernel_parameters(keys: list[str], root: str = "/proc/sys") -> dict[str, str]:
    """Values of those parameters that this host has and may set: a container sees some that it may not."""
    found = {}
    for key in keys:
        path = Path(root, *key.split("."))
        try:
            if path.stat().st_mode & 0o200:
                found[key] = " ".join(path.read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


def _stamp(path: str) -> str | None:
    return _text(path).strip() if Path(path).exists() else None


def _output(run: Run, *command: str) -> str:
    """Output of a command; "" where it is not installed or fails."""
    if shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        return ""
    code, out, _ = run(list(command))
    return out if code == 0 else ""


def _certificate(run: Run, path: str) -> dict[str, Any] | None:
    if not Path(path).exists():
        return None
    text = _output(
        run, "openssl", "x509", "-in", path, "-noout", "-dates", "-issuer", "-subject", "-serial",
        "-dateopt", "iso_8601", "-ext",
        "subjectAltName,subjectKeyIdentifier,authorityKeyIdentifier",
    )  # fmt: skip
    if not text:
        return None
    content = _text(path).strip().encode()
    return certificate(text) | {"file_sha256": hashlib.sha256(content).hexdigest()}


def gather(run: Run, params: dict[str, Any]) -> dict[str, Any]:
    """The fact."""
    return {
        "distribution": os_release(_text("/etc/os-release")),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "systemd": _text("/proc/1/comm").strip() == "systemd",
        "container": Path("/run/systemd/container").exists(),
        "cpus": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "nofile_hard": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "disk_free_mb": shutil.disk_usage("/opt" if Path("/opt").exists() else "/").free >> 20,
        "listeners": listeners(
            _output(run, "ss", "-lntupH"), lambda pid: unit_from_cgroup(_text(f"/proc/{pid}/cgroup"))
        ),
        "firewall": input_rules(
            _output(run, "nft", "list", "ruleset"), _output(run, "iptables", "-S", "INPUT")
        ),
        "packages": installed_packages(_text("/var/lib/dpkg/status")),
        "users": [line.split(":", 1)[0] for line in _text("/etc/passwd").splitlines()],
        "now": _output(run, "date", "--utc", "+%Y-%m-%d %H:%M:%SZ").strip(),
        "sysctl": kernel_parameters(params["sysctl"]),
        "stamps": {path: _stamp(path) for path in params["stamps"]},
        "digests": {path: _digest(path) for path in params["digests"]},
        "certificates": {path: _certificate(run, path) for path in params["certificates"]},
    }


ARGUMENTS: dict[str, Any] = {
    "sysctl": {"type": "list", "elements": "str", "default": []},
    "stamps": {"type": "list", "elements": "path", "default": []},
    "digests": {"type": "list", "elements": "path", "default": []},
    "certificates": {"type": "list", "elements": "path", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    facts = gather(module.run_command, module.params)
    module.exit_json(changed=False, ansible_facts={"marchproxy_host": facts})


if __name__ == "__main__":
    main()
