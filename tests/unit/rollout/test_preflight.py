"""What Envoy would accept and regret is refused before anything is compiled."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.site_pki import SitePki, key_pem, new_key
from xds_agent.rollout.preflight import authority_faults, key_pair_faults

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return SitePki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def pair(pki):
    key = new_key()
    names = ["shop.example.com", "*.eu.example.com"]
    return pki.issuer.sign_service(key.public_key(), names=names, now=NOW).decode(), key_pem(key).decode()


def faults(chain, key, names=("shop.example.com",), now=NOW):
    return [f"{field}: {what}; {fix}" for field, (what, fix) in key_pair_faults(chain, key, names, now)]


def test_a_good_pair_has_none(pair):
    assert faults(*pair, names=["shop.example.com", "a.eu.example.com", "*.eu.example.com"]) == []


def test_expired(pair):
    [leaf] = faults(*pair, now=NOW + 31 * DAY)
    assert "expired on" in leaf


def test_not_yet_valid(pair):
    assert any("valid only from" in fault for fault in faults(*pair, now=NOW - DAY))


def test_the_key_of_another(pair):
    [fault] = faults(pair[0], key_pem(new_key()).decode())
    assert fault.startswith("private_key: is not the key of the certificate")


def test_a_name_it_does_not_hold(pair):
    [fault] = faults(*pair, names=["shop.example.com", "a.b.eu.example.com", "other.example.com"])
    assert "not a.b.eu.example.com, other.example.com" in fault


def test_a_chain_in_the_wrong_order(pki, pair):
    root = pki.root_pem.decode()
    issuing = pki.issuer.pem.decode()
    leaf = pair[0].removesuffix(issuing)
    assert faults(leaf + issuing + root, pair[1]) == []
    assert any("did not issue" in fault for fault in faults(leaf + root + issuing, pair[1]))


def test_no_pem_at_all(pair):
    assert faults("nonsense", pair[1]) == [
        "certificate: is not a PEM certificate; give the leaf first, then its issuers"
    ]
    assert any("is not a PEM private key" in fault for fault in faults(pair[0], "nonsense"))


def test_an_encrypted_key(pair):
    key = serialization.load_pem_private_key(pair[1].encode(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )
    assert faults(pair[0], locked.decode()) == [
        "private_key: is encrypted; decrypt it, and keep it as a vault value"
    ]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "has 1024 bits"),
        (ec.generate_private_key(ec.SECP256K1()), "which Envoy refuses"),
        (ed25519.Ed25519PrivateKey.generate(), "neither ECDSA nor RSA"),
    ],
)
def test_keys_that_envoy_refuses(pki, key, words):
    chain = pki.issuer.sign_service(key.public_key(), names=["shop.example.com"], now=NOW).decode()
    assert any(words in fault for fault in faults(chain, key_pem(key).decode()))


def authority(ca, crl, now=NOW):
    return [f"{field}: {what}" for field, (what, _fix) in authority_faults(ca, crl, now)]


def test_a_good_authority_has_none(pki):
    assert authority(pki.issuer.pem.decode(), None) == []
    crl = pki.issuer.sign_crl({}, now=NOW, number=1).decode()
    assert authority(pki.issuer.pem.decode(), crl) == []


def test_a_leaf_is_no_authority(pair):
    leaf = x509.load_pem_x509_certificates(pair[0].encode())[0]
    pem = leaf.public_bytes(serialization.Encoding.PEM).decode()
    assert any("is no certificate authority" in fault for fault in authority(pem, None))


def test_a_stale_list(pki):
    crl = pki.issuer.sign_crl({}, now=NOW - 8 * DAY, number=1).decode()
    assert any("is stale since" in fault for fault in authority(pki.issuer.pem.decode(), crl))


def test_a_list_that_is_not_valid_yet(pki):
    crl = pki.issuer.sign_crl({}, now=NOW + DAY, number=1).decode()
    assert any("valid only from" in fault for fault in authority(pki.issuer.pem.decode(), crl))


def test_a_ca_without_its_list(pki):
    crl = pki.issuer.sign_crl({}, now=NOW, number=1).decode()
    found = authority(pki.issuer.pem.decode() + pki.root_pem.decode(), crl)
    assert found == ["crl: CN=root has no list here: every client of it would be refused"]


def test_a_list_that_another_signed(pki, tmp_path):
    stranger = SitePki(tmp_path / "stranger")
    crl = stranger.issuer.sign_crl({}, now=NOW, number=1).decode()
    assert any("is not signed by it" in fault for fault in authority(pki.issuer.pem.decode(), crl))


def test_damaged_pem(pki):
    assert authority("nonsense", None) == ["certificate: is not a PEM certificate"]
    assert authority(pki.issuer.pem.decode(), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----") == [
        "crl: is not a PEM revocation list"
    ]
