"""Which lines an Envoy's refusal of a table of routes is put down to."""

from types import SimpleNamespace

from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout.blame import changed_routes, problems_of
from xds_agent.rollout.release import Failure
from xds_agent.snapshot.resource import CLUSTER


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


def told(site, failures):
    built = SimpleNamespace(
        site=site, compiled=SimpleNamespace(origin_of=lambda type_url, name: f"services[{name}]")
    )
    return [problem.message for problem in problems_of(built, None, failures)]


def test_what_many_proxies_say_alike_is_told_once_with_who_they_are(site_of):
    nodes = [f"edge{n}" for n in range(1, 61)]
    words = "ring too big"
    refused = [
        Failure(n, f"{n} refused the change: {words}", Refused(n, "r", CLUSTER, ("shop",), words))
        for n in nodes
    ]
    assert told(site_of(), refused) == [
        "edge1, edge2, edge3, edge4, edge5 and 55 others refused cluster shop: ring too big"
    ]
    silent = [Failure(n, f"{n} did not acknowledge the change within 60 s") for n in nodes[:6]]
    assert told(site_of(), silent) == [
        "edge1, edge2, edge3, edge4, edge5 and 1 other did not acknowledge the change within 60 s"
    ]
    # Other words, or a whole wave's, stand for themselves.
    other = Failure("edge9", "edge9 refused the change: no", Refused("edge9", "r", "", (), "no"))
    assert told(site_of(), [*silent[:1], other, Failure("", "5xx went up")]) == [
        "edge1 did not acknowledge the change within 60 s", "edge9 refused the revision: no", "5xx went up",
    ]  # fmt: skip
