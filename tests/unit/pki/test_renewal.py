"""Control renews for hosts of the live revision only: a removed one must not live on by renewing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.site_pki import SitePki
from xds_agent.pki.issuer import IssueError
from xds_agent.pki.renewal import RenewalHandler

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def pki(tmp_path: Path) -> SitePki:
    return SitePki(tmp_path / "pki")


def csr() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA384())
    return request.public_bytes(serialization.Encoding.PEM)


def handler(pki: SitePki, held: set[str]) -> RenewalHandler:
    return RenewalHandler(
        lambda: pki.issuer, trust_domain="td", ca=pki.folder / "ca.crt", crl=None, held=held.__contains__
    )


def test_a_host_of_the_live_revision_is_renewed(pki: SitePki) -> None:
    answer = handler(pki, {"edge1"}).renew("edge1", csr(), now=NOW)
    leaf = x509.load_pem_x509_certificates(answer.chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://td/host/edge1"]


def test_a_removed_host_is_not_renewed(pki: SitePki) -> None:
    with pytest.raises(IssueError, match="edge1 is no host of the live revision"):
        handler(pki, {"edge2"}).renew("edge1", csr(), now=NOW)
