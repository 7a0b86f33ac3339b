"""What a host is told at its first boot: name, logins, its signed SSH host key. Nothing is installed."""

from __future__ import annotations

import json

from edge_iac.site.model import Ssh
from edge_iac.ssh_ca import HostKey


def user_data(*, host: str, ssh: Ssh, key: HostKey) -> str:
    """The #cloud-config of a host, secret because it carries the private key of its sshd."""
    document = {
        "hostname": host,
        "preserve_hostname": False,
        "ssh_deletekeys": True,
        # Who is given a key makes none of its own, which nobody would have signed.
        "ssh_keys": {
            "ed25519_private": key.private,
            "ed25519_public": key.public,
            "ed25519_certificate": key.certificate,
        },
        "users": [
            {
                "name": ssh.user,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": list(ssh.authorized_keys),
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "package_update": False,
        "package_upgrade": False,
    }
    # JSON is YAML, and quotes everything that YAML would guess about.
    return "#cloud-config\n" + json.dumps(document, indent=1, sort_keys=True) + "\n"
