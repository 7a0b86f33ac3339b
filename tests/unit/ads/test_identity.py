"""What name a certificate proves, and what is no name."""

from __future__ import annotations

import pytest

from tests.support.site_pki import TRUST_DOMAIN
from xds_agent.ads.identity import IdentityError, host_of, peer_of


def test_one_spiffe_uri_names_the_host():
    assert host_of([f"spiffe://{TRUST_DOMAIN}/host/edge-aws1"], TRUST_DOMAIN) == "edge-aws1"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [f"spiffe://{TRUST_DOMAIN}/host/a", f"spiffe://{TRUST_DOMAIN}/host/b"],
        ["spiffe://elsewhere.internal/host/a"],
        [f"spiffe://{TRUST_DOMAIN}/service/a"],
        [f"spiffe://{TRUST_DOMAIN}/host/"],
        [f"spiffe://{TRUST_DOMAIN}/host/a/b"],
        [f"spiffe://{TRUST_DOMAIN}/host/a\nb"],
        [f"spiffe://{TRUST_DOMAIN}/host/.."],
        [f"https://{TRUST_DOMAIN}/host/a"],
        [f"spiffe://{TRUST_DOMAIN}.evil/host/a"],
    ],
)
def test_everything_else_is_no_identity(uris):
    with pytest.raises(IdentityError):
        host_of(uris, TRUST_DOMAIN)


def test_a_leaf_of_the_issuing_ca_is_read_whole(shared_pki):
    files = shared_pki.host("edge-gcp1")
    peer = peer_of(files.certificate.read_bytes(), TRUST_DOMAIN)
    assert peer.name == "edge-gcp1"
    assert peer.serial == files.serial
    assert peer.serial_text == f"{files.serial:X}"
    assert peer.issuer == shared_pki.issuer.certificate.subject.public_bytes()


def test_a_certificate_without_names_is_no_identity(shared_pki):
    with pytest.raises(IdentityError, match="0 URI names"):
        peer_of(shared_pki.root_pem, TRUST_DOMAIN)


def test_rubbish_is_no_identity():
    with pytest.raises(IdentityError, match="cannot be read"):
        peer_of(b"rubbish", TRUST_DOMAIN)
