"""Host keys: signed for one host, the same bytes every time, and what OpenSSH itself takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from edge_iac.cloud_init import user_data
from edge_iac.site.model import Ssh
from edge_iac.site.refused import AWS_LOGINS_BYTES, logins_bytes
from edge_iac.ssh_ca import NotAnAuthority, authority_public, host_key, new_authority

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGoocfWvOmw9qd0T1SMWjJZ6i/8oSWvGPJUCqeFTsYGO a@b"
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")


def keygen(*words: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True).stdout


def test_two_runs_give_the_same_bytes_and_two_hosts_do_not() -> None:
    authority = new_authority()
    first = host_key(authority, site="prod", host="edge-1")
    again = host_key(authority, site="prod", host="edge-1")
    assert (first.private, first.certificate) == (again.private, again.certificate)
    for other in (
        host_key(authority, site="prod", host="edge-2"),
        host_key(authority, site="test", host="edge-1"),
        host_key(new_authority(), site="prod", host="edge-1"),
    ):
        assert other.private != first.private


@needs_ssh_keygen
def test_openssh_reads_the_key_and_the_certificate_names_the_host_alone(tmp_path: Path) -> None:
    authority = new_authority()
    key = host_key(authority, site="prod", host="edge-1")
    private, certificate, ca = tmp_path / "key", tmp_path / "key-cert.pub", tmp_path / "ca.pub"
    private.write_text(key.private)
    private.chmod(0o600)
    certificate.write_text(key.certificate + "\n")
    ca.write_text(authority_public(authority) + "\n")
    assert keygen("-y", "-f", private).split()[:2] == key.public.split()
    said = keygen("-L", "-f", certificate)
    assert "host certificate" in said
    assert "Principals: \n                edge-1\n" in said
    fingerprint = keygen("-l", "-f", ca).split()[1]
    assert f"Signing CA: ED25519 {fingerprint}" in said


@needs_ssh_keygen
def test_an_authority_made_by_ssh_keygen_is_taken(tmp_path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ca")
    public = authority_public((tmp_path / "ca").read_text())
    assert public.split() == (tmp_path / "ca.pub").read_text().split()[:2]


@needs_ssh_keygen
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_another_kind_of_key_is_refused_with_the_way_out(kind: str, tmp_path: Path) -> None:
    keygen("-q", "-t", kind, "-N", "", "-f", tmp_path / "ca")
    with pytest.raises(NotAnAuthority, match="not an Ed25519 key; make one with ssh-keygen"):
        host_key((tmp_path / "ca").read_text(), site="a", host="b")


@pytest.mark.parametrize("text", ["", "hello", KEY])
def test_what_is_no_private_key_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(NotAnAuthority) as caught:
        host_key(text, site="a", host="b")
    assert "not a private SSH key" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_user_data_hold_as_many_keys_as_a_site_may_have() -> None:
    """AWS takes 16384 bytes; what a site is allowed is counted without making any."""
    one, host = f"ssh-rsa {'A' * 716} \u00e9", "h" * 255
    keys = [f"{one} {number}" for number in range(100)]
    allowed = [key for at, key in enumerate(keys, start=1) if logins_bytes(keys[:at]) <= AWS_LOGINS_BYTES]
    assert len(allowed) > 15
    signed = host_key(new_authority(), site="s" * 32, host=host)
    data = user_data(host=host, ssh=Ssh(user="u" * 31, authorized_keys=tuple(allowed)), key=signed)
    assert AWS_LOGINS_BYTES < len(data.encode()) <= 16384


def test_a_first_boot_installs_nothing_and_lets_in_by_key_alone() -> None:
    key = host_key(new_authority(), site="prod", host="edge-1")
    text = user_data(host="edge-1", ssh=Ssh(authorized_keys=(KEY,)), key=key)
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert document["ssh_keys"]["ed25519_private"] == key.private
    assert document["ssh_keys"]["ed25519_certificate"] == key.certificate
    # An empty list is against cloud-init's schema, and whoever is given keys makes none.
    assert "ssh_genkeytypes" not in document
    assert document["ssh_pwauth"] is False
    assert document["users"][0]["ssh_authorized_keys"] == [KEY]
    assert not {"packages", "runcmd", "bootcmd", "write_files", "apt"} & document.keys()
    assert document["package_update"] is False
