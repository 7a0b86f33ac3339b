"""The revocation list: re-read when changed, refusing when stale or missing."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.support.site_pki import TRUST_DOMAIN
from xds_agent.ads.identity import peer_of
from xds_agent.ads.revocations import Revocations, Revoked, Unknowable

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def peer(pki):
    return peer_of(pki.host("edge1").certificate.read_bytes(), TRUST_DOMAIN)


def test_a_good_certificate_passes(pki, peer):
    Revocations(pki.folder / "crl.pem").check(peer, NOW)


def test_without_a_configured_list_nothing_is_checked(peer):
    Revocations(None).check(peer, NOW)


def test_a_revocation_is_seen_once_the_file_changed(pki, peer):
    revocations = Revocations(pki.folder / "crl.pem")
    assert not revocations.reload()
    pki.revoke(peer.serial)
    revocations.check(peer, NOW)
    assert revocations.reload()
    assert revocations.is_revoked(peer)
    with pytest.raises(Revoked, match="edge1"):
        revocations.check(peer, NOW)


def test_a_stale_list_refuses_new_streams(pki, peer):
    with pytest.raises(Unknowable, match="stale"):
        Revocations(pki.folder / "crl.pem").check(peer, NOW + dt.timedelta(days=8))


def test_a_missing_list_refuses_and_says_which(pki, peer):
    with pytest.raises(Unknowable, match=r"nothere\.pem"):
        Revocations(pki.folder / "nothere.pem").check(peer, NOW)


def test_a_damaged_list_refuses_new_streams_and_keeps_what_was_revoked(pki, peer):
    pki.revoke(peer.serial)
    revocations = Revocations(pki.folder / "crl.pem")
    (pki.folder / "crl.pem").write_bytes(b"-----BEGIN X509 CRL-----\nrubbish\n-----END X509 CRL-----\n")
    revocations.reload()
    assert revocations.is_revoked(peer)
    pki.write_crl()
    assert revocations.reload()
