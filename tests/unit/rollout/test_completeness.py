"""An incomplete view never removes."""

import pytest

from xds_agent.rollout.completeness import not_allowed, removals


def without_service(document):
    del document["edge"]["services"][1]
    del document["edge"]["domains"][1]


def without_proxy(document):
    del document["hosts"]["edge2"]


def without_backend(document):
    del document["hosts"]["back2"]


def keep_endpoints(count):
    def change(document):
        del document["edge"]["services"][1]["endpoints"][count:]

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda document: None, []),
        (without_service, ["vault"]),
        (without_proxy, ["edge2"]),
        # one of two hosts of the group did not answer the inventory source
        (without_backend, ["shop"]),
        (keep_endpoints(18), []),
        (keep_endpoints(17), ["vault"]),
    ],
)
def test_what_would_be_removed(site_of, change, names):
    assert [one.name for one in removals(site_of(), site_of(change))] == names


def test_more_is_never_a_removal(site_of):
    assert removals(site_of(without_service), site_of()) == []


def test_a_host_that_is_no_proxy_may_go(site_of):
    def change(document):
        document["hosts"]["spare"] = {"groups": ["observability"], "address": "10.0.0.9"}

    assert removals(site_of(change), site_of()) == []


def test_a_moved_endpoint_is_no_loss(site_of):
    def change(document):
        document["edge"]["services"][1]["endpoints"][0]["port"] = 8443

    assert removals(site_of(), site_of(change)) == []


def test_only_what_is_named_may_go(site_of):
    def change(document):
        without_service(document)
        without_proxy(document)

    found = removals(site_of(), site_of(change))
    assert [one.name for one in not_allowed(found, ["vault"])] == ["edge2"]
    assert not_allowed(found, ["vault", "edge2"]) == []
    assert "would keep 1 of its 2 endpoints" in removals(site_of(), site_of(without_backend))[0].text
