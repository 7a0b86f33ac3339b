"""Sites made from short documents."""

import copy

import pytest

from xds_agent.model import load_site

DOCUMENT = {
    "schema": 1,
    "edge": {
        "tenants": [{"name": "retail"}, {"name": "bank"}],
        "certificates": [{"name": "shop"}, {"name": "bank"}],
        "domains": [
            {"name": "shop.example.com", "tenant": "retail", "certificate": "shop"},
            {"name": "bank.example.com", "tenant": "bank", "certificate": "bank"},
        ],
        "services": [
            {
                "name": "shop",
                "tenant": "retail",
                "domains": ["shop.example.com"],
                "endpoints": [{"group": "shop_backends", "port": 8080}],
            },
            {
                "name": "vault",
                "tenant": "bank",
                "domains": ["bank.example.com"],
                "endpoints": [{"address": f"10.9.0.{n}", "port": 443} for n in range(1, 21)],
            },
        ],
        "routes": [{"domains": ["shop.example.com"], "prefix": "/old", "service": "shop"}],
    },
    "hosts": {
        "control1": {"address": "10.0.0.1", "groups": ["control"]},
        "edge1": {"address": "10.0.0.2", "groups": ["ingress"], "cloud": "aws", "region": "us-east-1"},
        "edge2": {"address": "10.0.0.3", "groups": ["ingress"], "cloud": "gcp", "region": "us-east1"},
        "back1": {"address": "10.0.1.1", "groups": ["shop_backends"], "cloud": "aws"},
        "back2": {"address": "10.0.1.2", "groups": ["shop_backends"], "cloud": "gcp"},
    },
    "origins": {"edge.services[shop]": "edge/shop.yml:3:5"},
}


@pytest.fixture
def document():
    return copy.deepcopy(DOCUMENT)


@pytest.fixture
def site_of():
    """site_of(change) is the site after `change(document)`; site_of() the one before."""

    def make(change=lambda document: None):
        document = copy.deepcopy(DOCUMENT)
        change(document)
        return load_site(document)

    return make
