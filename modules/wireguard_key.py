#!/usr/bin/python
"""A WireGuard key that is made on the host and never leaves it, and what a tunnel from there meets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wireguard_key
short_description: A WireGuard key, made on the host
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Makes the key where there is none. Only its public half is ever told, as the fact
    C(marchproxy_interconnect), beside the MTU of the host's way out and whether its kernel has WireGuard.
  - It needs openssl and nothing of WireGuard, so it runs before anything is installed.
options:
  path:
    description: The file with the private key, in the form that C(wg) reads; made with mode 0400, root's.
    type: path
    required: true
attributes:
  check_mode:
    description: Says that a key would be made; the fact has no public key then.
    support: full
  diff_mode:
    description: Names the file, never its content.
    support: full
  facts:
    description: Sets C(marchproxy_interconnect).
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Key of this gateway
  marchproxy.edge.wireguard_key:
    path: /etc/marchproxy/interconnect.key
"""

RETURN = r"""
ansible_facts:
  description: The fact C(marchproxy_interconnect).
  returned: always
  type: dict
  contains:
    marchproxy_interconnect:
      description: C(public_key) (empty where there is none yet), C(mtu) and C(kernel).
      type: dict
"""

import base64
import binascii
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

KEY_BYTES = 32
# PKCS #8 of an X25519 key, without the key (RFC 8410).
DER_HEAD = bytes.fromhex("302e020100300506032b656e04220420")
DEFAULT_MTU = 1500


class KeyUnusable(Exception):
    """The file holds no key; the text names it and the remedy."""


def clamped(raw: bytes) -> bytes:
    """Random bytes as a key of Curve25519 (RFC 7748, section 5)."""
    return bytes([raw[0] & 248, *raw[1:31], raw[31] & 127 | 64])


def private_key(path: Path) -> bytes | None:
    """The key in ``path``; None where there is no file. Raises KeyUnusable."""
    try:
        text = path.read_text(encoding="ascii").strip()
        key = base64.b64decode(text, validate=True)
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyUnusable(f"{path} holds no WireGuard key; move it away, and the next run makes one")
    return key


def write_key(path: Path, key: bytes) -> None:
    """Write the key whole, or not at all; nobody but root reads it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as target:
        target.write(base64.b64encode(key) + b"\n")
        target.flush()
        os.fsync(target.fileno())
    fresh.replace(path)


def route_mtu(routes: str, sys_net: Path = Path("/sys/class/net")) -> int:
    """MTU in bytes of the card that the default route goes by; ``routes`` is /proc/net/route."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 1 and fields[1] == "00000000":
            return int((sys_net / fields[0] / "mtu").read_text())
    return DEFAULT_MTU


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True
    )
    path = Path(module.params["path"])
    try:
        key = private_key(path)
        missing = key is None
        if missing and not module.check_mode:
            key = clamped(os.urandom(KEY_BYTES))
            write_key(path, key)
        public = _public(module, key) if key is not None else ""
        mtu = route_mtu(Path("/proc/net/route").read_text(encoding="ascii"))
    except (KeyUnusable, OSError) as problem:
        module.fail_json(msg=str(problem))
    kernel = _kernel_has_wireguard(module)
    facts = {"public_key": public, "mtu": mtu, "kernel": kernel}
    diff = (
        {"before": "", "after": f"a new private key in {path}\n"} if missing else {"before": "", "after": ""}
    )
    module.exit_json(changed=missing, ansible_facts={"marchproxy_interconnect": facts}, diff=diff)


def _kernel_has_wireguard(module: AnsibleModule) -> bool:
    """Whether the running kernel has shown that it knows WireGuard; it is given the occasion."""
    modprobe = module.get_bin_path("modprobe")
    if modprobe and not module.check_mode:
        module.run_command([modprobe, "--quiet", "wireguard"])
    return Path("/sys/module/wireguard").exists()


def _public(module: AnsibleModule, key: bytes) -> str:
    """The public half; the private one goes to openssl by stdin, never by an argument."""
    code, out, err = module.run_command(
        ["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
        data=DER_HEAD + key, binary_data=True, encoding=None,
    )  # fmt: skip
    if code:
        module.fail_json(msg=f"openssl cannot read the key: {err.decode(errors='replace').strip()}")
    return base64.b64encode(out[-KEY_BYTES:]).decode()


if __name__ == "__main__":
    main()
