"""A socket of some tenants refuses what reaches beyond them."""

import pytest

from xds_agent.rollout.entitlement import beyond


def set_timeout(document):
    document["edge"]["services"][0]["description"] = "new"


def change_bank(document):
    document["edge"]["services"][1]["description"] = "new"


def give_away(document):
    """A service that moves to another tenant touches both."""
    document["edge"]["services"][0]["tenant"] = "bank"
    document["edge"]["domains"][0]["tenant"] = "bank"


def drop_route(document):
    document["edge"]["routes"] = []


def bank_route(document):
    document["edge"]["routes"].append({"domains": ["bank.example.com"], "prefix": "/x", "service": "vault"})


def other_key(document):
    document["edge"]["certificates"][1]["key_type"] = "ecdsa-p256"


def own_key(document):
    document["edge"]["certificates"][0]["key_type"] = "ecdsa-p256"


def other_ports(document):
    document["edge"]["ports"] = {"https": 8443}


def other_host(document):
    document["hosts"]["edge1"]["cloud"] = "gcp"


@pytest.mark.parametrize("change", [lambda document: None, set_timeout, drop_route, own_key])
def test_its_own_may_change(site_of, change):
    assert beyond(site_of(), site_of(change), {"retail"}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_bank, "service vault (of tenant bank)"),
        (give_away, "service shop (of tenant bank)"),
        (bank_route, "a route of bank.example.com (of tenant bank)"),
        (other_key, "certificate bank (of tenant bank)"),
        (other_ports, "ports (of the whole site)"),
        (other_host, "hosts (of the whole site)"),
    ],
)
def test_what_belongs_to_others_may_not(site_of, change, words):
    assert words in beyond(site_of(), site_of(change), {"retail"})


def test_a_first_site_is_for_all_tenants(site_of):
    assert "hosts (of the whole site)" in beyond(None, site_of(), {"retail", "bank"})
