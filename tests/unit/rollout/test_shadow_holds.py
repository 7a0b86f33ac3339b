"""What a shadow's Envoy shows against what it acknowledged; its answers are a test's."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.resources import cluster, endpoints, replaced, site
from xds_agent.rollout import shadow_holds
from xds_agent.snapshot.resource import CLUSTER, EMPTY, ENDPOINTS


class Shows:
    """An admin whose Envoy holds clusters of these versions; after `settles` looks, of `then`."""

    def __init__(self, versions, then=None):
        self.versions, self.then = versions, then
        self.asked = []

    async def get(self, target):
        self.asked.append(target)
        versions = self.versions if self.then is None or len(self.asked) < 3 else self.then
        clusters = [
            {"version_info": version, "cluster": {"name": name}} for name, version in versions.items()
        ]
        return json.dumps({"configs": [{"dynamic_active_clusters": clusters}]}).encode()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(shadow_holds, "_AGAIN_S", 0.0)


@pytest.fixture
def step():
    before = site(443, {"shop": [8080]})
    # A cluster whose endpoints are its own, so that clusters alone differ.
    return before, replaced(before, cluster("later"), cluster("shop", bad_ring=True))


def versions(snapshot, *names):
    return {name: snapshot.of_type(CLUSTER)[name].version for name in names}


async def test_what_envoy_shows_is_what_was_meant(step, monkeypatch):
    monkeypatch.setattr(shadow_holds, "COMPARED", (CLUSTER,))
    before, after = step
    shows = Shows(versions(after, "later", "shop"))
    assert await shadow_holds.difference(shows, before, after) == ("", (), "")
    [expression] = parse_qs(urlsplit(shows.asked[0]).query)["name_regex"]
    assert expression == "^(later|shop)$"


async def test_another_version_and_a_missing_one_are_named(step, monkeypatch):
    monkeypatch.setattr(shadow_holds, "SETTLED_WITHIN_S", 0.0)
    before, after = step
    shows = Shows(versions(before, "shop"))
    type_url, names, words = await shadow_holds.difference(shows, before, after)
    assert type_url == CLUSTER
    assert set(names) == {"later", "shop"}
    assert "cluster later: Envoy does not have it" in words
    assert "cluster shop: Envoy has version" in words


async def test_what_settles_meanwhile_is_no_difference(step, monkeypatch):
    monkeypatch.setattr(shadow_holds, "COMPARED", (CLUSTER,))
    before, after = step
    shows = Shows(versions(before, "shop"), then=versions(after, "later", "shop"))
    assert (await shadow_holds.difference(shows, before, after))[2] == ""
    assert len(shows.asked) == 3


async def test_what_is_removed_must_be_gone(monkeypatch):
    monkeypatch.setattr(shadow_holds, "SETTLED_WITHIN_S", 0.0)
    before = site(443, {"shop": [8080]})
    _, names, words = await shadow_holds.difference(Shows(versions(before, "shop")), before, EMPTY)
    assert names == ("shop",) and "Envoy has it, control wants it gone" in words


async def test_no_difference_asks_nothing():
    before = site(443, {"shop": [8080]})
    shows = Shows({})
    assert await shadow_holds.difference(shows, before, before) == ("", (), "")
    assert shows.asked == []
    assert ENDPOINTS in shadow_holds.COMPARED and endpoints("shop", 1)
