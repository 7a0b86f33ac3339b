"""Which lines an Envoy's refusal of a table of routes is put down to."""

from xds_agent.rollout.blame import changed_routes


def add(*prefixes):
    def change(document):
        for prefix in prefixes:
            document["edge"]["routes"].append(
                {"domains": ["shop.example.com"], "prefix": prefix, "service": "shop"}
            )

    return change


def test_only_what_differs_from_what_is_live(site_of):
    assert changed_routes(site_of(), site_of()) == []
    assert changed_routes(site_of(add("/a")), site_of(add("/a", "/b"))) == ["routes[2]"]
    assert changed_routes(site_of(add("/a", "/b")), site_of(add("/a"))) == []


def test_a_first_revision_is_all_new(site_of):
    assert changed_routes(None, site_of(add("/a"))) == ["routes[0]", "routes[1]"]
