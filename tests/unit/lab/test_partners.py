"""The lab's foreign authority and its three kinds of client."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from lab import partners


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert partners.ensure(tmp_path / "partners")
    return tmp_path / "partners"


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_a_second_call_keeps_what_is_there(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not partners.ensure(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_lost_file_is_made_again(folder: Path) -> None:
    (folder / "crl.pem").unlink()
    assert partners.ensure(folder)
    assert (folder / "crl.pem").exists()


@pytest.mark.parametrize("name", ["client", "revoked"])
def test_partners_are_signed_by_the_authority(folder: Path, name: str) -> None:
    certificate(folder, name).verify_directly_issued_by(certificate(folder, "ca"))


def test_a_stranger_is_not(folder: Path) -> None:
    with pytest.raises((InvalidSignature, ValueError)):
        certificate(folder, "stranger").verify_directly_issued_by(certificate(folder, "ca"))


def test_the_crl_lists_the_revoked_one_only(folder: Path) -> None:
    crl = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate(folder, "revoked").serial_number)
    assert not crl.get_revoked_certificate_by_serial_number(certificate(folder, "client").serial_number)


def test_keys_are_readable_by_their_owner_only(folder: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}
