"""The startup script of hosts without cloud-init, run as Google's agent runs it: as root, at every boot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from edge_iac.ssh_ca import HostKey, authority_public, host_key, new_authority
from edge_iac.startup import ssh_keys, startup_script

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a mount of its own over /etc/ssh belongs to root")

# /etc/ssh of the machine is hidden by an empty one, in a mount namespace that ends with the shell.
BOOT = """
set -eu
mount --bind "$1" /etc/ssh
PATH="$2:$PATH" sh "$3"
"""
HOST = "edge-gcp-us-central1-1"
KEY, CERTIFICATE = "ssh_host_ed25519_key", "ssh_host_ed25519_key-cert.pub"
SETTINGS = "sshd_config.d/10-edge-host-key.conf"


class Machine:
    """A machine as far as the script touches it: its /etc/ssh, and what systemd and sshd were asked."""

    def __init__(self, folder: Path) -> None:
        self.ssh, self.programs, self.asked = folder / "ssh", folder / "programs", folder / "asked"
        (self.ssh / "sshd_config.d").mkdir(parents=True)
        self.programs.mkdir()
        self.asked.write_text("")
        for name in ("systemctl", "sshd"):
            (self.programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.asked}\n')
            (self.programs / name).chmod(0o755)
        self._script = folder / "startup"

    def boot(self, script: str) -> list[str]:
        """Run the script; what was asked of systemd and sshd."""
        self._script.write_text(script)
        self.asked.write_text("")
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", BOOT, "boot", self.ssh, self.programs, self._script],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return self.asked.read_text().splitlines()

    def mode(self, name: str) -> int:
        return (self.ssh / name).stat().st_mode & 0o777


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_signed_key_is_served_and_nothing_changes_at_the_next_boot(machine: Machine) -> None:
    authority = new_authority()
    script = startup_script(host_key(authority, site="s", host=HOST))
    # The agent has made a key of its own by then, which nobody has signed.
    (machine.ssh / KEY).write_text("the agent's own")
    assert machine.boot(script) == ["sshd -t", "systemctl reload-or-restart ssh.service"]
    before = {path: path.stat().st_mtime_ns for path in machine.ssh.rglob("*") if path.is_file()}
    assert machine.boot(script) == []
    after = {path: path.stat().st_mtime_ns for path in machine.ssh.rglob("*") if path.is_file()}
    assert after == before, "and no file is left over"
    assert (machine.mode(KEY), machine.mode(CERTIFICATE), machine.mode(SETTINGS)) == (0o600, 0o644, 0o644)
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", machine.ssh / CERTIFICATE], check=True, capture_output=True, text=True
    ).stdout
    assert "host certificate" in shown and HOST in shown
    (machine.ssh / "authority.pub").write_text(authority_public(authority))
    signer = subprocess.run(
        ["ssh-keygen", "-l", "-f", machine.ssh / "authority.pub"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    assert signer in shown
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", machine.ssh / KEY], check=True, capture_output=True, text=True
    ).stdout
    assert public.split()[:2] == (machine.ssh / f"{KEY}.pub").read_text().split()[:2]
    settings = (machine.ssh / SETTINGS).read_text().splitlines()
    assert settings[:2] == [f"HostKey /etc/ssh/{KEY}", f"HostCertificate /etc/ssh/{CERTIFICATE}"]


def test_a_new_key_is_taken_at_the_next_boot(machine: Machine) -> None:
    machine.boot(startup_script(HostKey(private="one", public="one", certificate="one")))
    said = machine.boot(startup_script(HostKey(private="one", public="one", certificate="two")))
    assert said[-1] == "systemctl reload-or-restart ssh.service"
    assert (machine.ssh / CERTIFICATE).read_text() == "two\n"


def test_logins_are_written_as_the_agent_reads_them() -> None:
    assert (
        ssh_keys("edge", ("ssh-ed25519 AAAA a", "ssh-rsa BBBB b"))
        == "edge:ssh-ed25519 AAAA a\nedge:ssh-rsa BBBB b"
    )
