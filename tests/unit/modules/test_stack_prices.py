"""Prices that a Pulumi stack puts out reach steering without being typed."""


def test_prices_of_the_stack_count_where_the_inventory_names_none(utils):
    with_prices = utils("site_document").with_prices
    prices = {
        "aws": {"us-east-1": {"egress_usd_per_gb": 0.09}, "eu-west-1": {"egress_usd_per_gb": 0.08}},
        "gcp": {"us-central1": {"egress_usd_per_gb": 0.12}},
        "azure": {"eastus": {"egress_usd_per_gb": 0.087}},
    }
    own = {
        "aws": {"regions": {"us-east-1": {"egress_usd_per_gb": 0.01}, "eu-west-1": {"latitude": 53.3}}},
        "gcp": {"egress_usd_per_gb": 0.02},
    }
    edge = {"clouds": own, "services": []}
    found = with_prices(edge, prices)
    assert found == {
        "services": [],
        "clouds": {
            "aws": {
                "regions": {
                    "us-east-1": {"egress_usd_per_gb": 0.01},
                    "eu-west-1": {"egress_usd_per_gb": 0.08, "latitude": 53.3},
                }
            },
            "gcp": {"egress_usd_per_gb": 0.02},
            "azure": {"regions": {"eastus": {"egress_usd_per_gb": 0.087}}},
        },
    }
    assert edge["clouds"] is own and "azure" not in own, "what was gathered is nobody's to change"


def test_what_is_no_section_of_clouds_is_left_to_the_model(utils):
    with_prices = utils("site_document").with_prices
    prices = {"aws": {"us-east-1": {"egress_usd_per_gb": 0.09}}}
    for edge in (
        None,
        {"$failed": True, "clouds": []},
        {"clouds": {"aws": "dear"}},
        {"clouds": {"aws": {"regions": 3}}},
    ):
        assert with_prices(edge, prices) == edge
    assert with_prices({"services": []}, {}) == {"services": []}
