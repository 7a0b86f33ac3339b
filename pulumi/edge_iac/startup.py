"""What a host without cloud-init is told at every boot: its signed SSH host key, as a script.

Google's Debian images have Google's guest agent only: it makes logins from the metadata `ssh-keys` and runs
`startup-script` as root, at every boot, after it has made host keys of its own, which nobody has signed.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_iac.ssh_ca import HostKey

_SCRIPT = """\
#!/bin/sh
# The host's SSH key and its certificate. Runs at each boot, and changes nothing the second time.
set -eu
key=/etc/ssh/ssh_host_ed25519_key
changed=

put() {{ # put FILE MODE: stdin becomes FILE, whole or not at all
  fresh=$(mktemp "$1.XXXXXX")
  cat >"$fresh"
  if cmp -s "$fresh" "$1"; then
    rm "$fresh"
    return
  fi
  chmod "$2" "$fresh"
  mv "$fresh" "$1"
  changed=yes
}}

put "$key" 600 <<'END'
{private}
END
put "$key.pub" 644 <<'END'
{public}
END
put "$key-cert.pub" 644 <<'END'
{certificate}
END
# Only this key: those that the agent has made would be ones that nobody has signed.
put /etc/ssh/sshd_config.d/10-edge-host-key.conf 644 <<END
HostKey $key
HostCertificate $key-cert.pub
PasswordAuthentication no
PermitRootLogin no
END
if [ -n "$changed" ]; then
  sshd -t
  systemctl reload-or-restart ssh.service
fi
"""


def startup_script(key: HostKey) -> str:
    """The script of a host, secret because it carries the private key of its sshd."""
    return _SCRIPT.format(private=key.private.strip(), public=key.public, certificate=key.certificate)


def ssh_keys(user: str, authorized_keys: Iterable[str]) -> str:
    """Google's form of logins: 'user:key' a line; the agent makes the user, who may sudo."""
    return "\n".join(f"{user}:{key}" for key in authorized_keys)
