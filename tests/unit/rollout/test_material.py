"""What a site is compiled with: who issues which certificate, and for which names."""

import dataclasses
import datetime as dt

import pytest

from tests.support.site_pki import SitePki, key_pem, new_key
from xds_agent.model import ModelError
from xds_agent.rollout.material import SiteCa, names_by_certificate, prepare, stand_in_notes
from xds_agent.store.certificates import Issued, issue

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def pki(tmp_path):
    pki = SitePki(tmp_path / "pki")
    (pki.folder / "issuing.crt").write_bytes(pki.issuer.pem)
    (pki.folder / "issuing.key").write_bytes(key_pem(pki.issuer.key))
    return pki


@pytest.fixture
def ca(pki):
    at = pki.folder
    return SiteCa(at / "ca.crt", at / "crl.pem", at / "issuing.crt", at / "issuing.key")


def by_acme(document):
    document["edge"]["certificates"][0] |= {"source": "acme", "directory": "https://acme.example.com/d"}


def test_names_are_the_domains_its_own_and_else_the_certificates(site_of):
    def change(document):
        document["edge"]["certificates"][0]["names"] = ["extra.example.com"]
        document["edge"]["certificates"].append({"name": "edge"})

    assert names_by_certificate(site_of(change)) == {
        "shop": ["extra.example.com", "shop.example.com"],
        "bank": ["bank.example.com"],
        "edge": ["edge"],
    }


def test_what_is_held_and_good_is_not_issued_again(site_of, ca):
    first = prepare(site_of(), ca, {}, now=NOW)
    assert [one.name for one in first.issued] == ["shop", "bank"]
    held = {one.name: one for one in first.issued}
    again = prepare(site_of(), ca, held, now=NOW)
    assert again.issued == ()
    assert again.material.key_pairs == first.material.key_pairs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ["more.example.com"]}, "its names are now more.example.com, shop.example.com"),
        ({"key_type": "ecdsa-p256"}, "its key is to be ecdsa-p256"),
    ],
)
def test_a_new_one_says_why(site_of, ca, change, words):
    held = {one.name: one for one in prepare(site_of(), ca, {}, now=NOW).issued}
    new = prepare(site_of(lambda d: d["edge"]["certificates"][0].update(change)), ca, held, now=NOW)
    assert new.reasons == (f"certificate shop: {words}",)


def test_until_an_acme_order_succeeds_the_sites_ca_stands_in_and_says_so(site_of, ca, tmp_path):
    site = site_of(by_acme)
    first = prepare(site, ca, {}, now=NOW)
    [note] = stand_in_notes(first)
    assert note.startswith("certificates[shop]: the site's own CA stands in")
    standing_in = {one.name: one for one in first.issued}
    later = NOW + dt.timedelta(days=21)
    assert "shop" in [one.name for one in prepare(site, ca, standing_in, now=later).issued]
    # Once the authority has issued, the site's CA keeps out.
    other = SitePki(tmp_path / "acme").issuer
    theirs: Issued = issue(other, "shop", ["shop.example.com"], now=NOW)
    prepared = prepare(site, ca, standing_in | {"shop": theirs}, now=later)
    assert prepared.material.key_pairs["shop"].chain == theirs.chain
    assert stand_in_notes(prepared) == []


def test_without_an_issuing_ca_nothing_is_issued_and_what_serves_goes_on(site_of, ca):
    lost = dataclasses.replace(ca, issuing_key=ca.ca.parent / "gone")
    with pytest.raises(ModelError) as caught:
        prepare(site_of(), lost, {}, now=NOW)
    assert all("run site.yml --tags pki" in problem.fix for problem in caught.value.problems)
    held = {one.name: one for one in prepare(site_of(), ca, {}, now=NOW).issued}
    prepared = prepare(site_of(), lost, held, now=NOW, serving=True)
    assert len(prepared.faults) == 2
    assert prepared.material.key_pairs.keys() == {"shop", "bank"}


def test_the_sites_own_authority_comes_with_its_list(site_of, ca, pki):
    trust = prepare(site_of(), ca, {}, now=NOW).material.trusts["site-ca"]
    assert trust.ca == (pki.folder / "ca.crt").read_bytes()
    assert trust.crl == (pki.folder / "crl.pem").read_bytes()


def test_a_stale_list_of_the_sites_own_is_refused_where_proxies_verify_by_it(site_of, ca, pki):
    def verify(document):
        document["edge"]["domains"][0].update(client_auth="required", client_ca="site-ca")

    late = NOW + dt.timedelta(days=9)
    assert prepare(site_of(), ca, {}, now=late).faults == ()
    with pytest.raises(ModelError) as caught:
        prepare(site_of(verify), ca, {}, now=late)
    stale = [problem for problem in caught.value.problems if "is stale since" in problem.message]
    assert [(one.path, one.fix) for one in stale] == [("site-ca.crl", "run site.yml --tags pki")]


def test_a_foreign_authority_is_looked_at(site_of, ca):
    key = new_key()

    def change(document):
        leaf = ca.issuer().sign_service(key.public_key(), names=["x.example.com"], now=NOW).decode()
        document["edge"]["authorities"] = [{"name": "partners", "certificate": leaf}]

    with pytest.raises(ModelError) as caught:
        prepare(site_of(change), ca, {}, now=NOW)
    assert caught.value.problems[0].path == "authorities[partners].certificate"
