"""`skip_bad`: the pipeline goes on without what the shadow refuses, says so, and until when. The shadow is a
stand-in that refuses what a test says; tests/envoy asks a real one."""

from __future__ import annotations

import copy

import pytest

from tests.support.fake_fleet import FakeFleet
from xds_agent.node.envoy_link import Refusal
from xds_agent.rollout.change import Change, Conflict
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.shadow import Tried
from xds_agent.snapshot.resource import CLUSTER, ROUTES


class Shadows:
    """Refuses every set that holds one of these words in its bytes."""

    def __init__(self, *words):
        self.words = words
        self.tried = 0

    async def try_out(self, old, new):
        self.tried += 1
        for name, snapshot in new.items():
            for type_url in (CLUSTER, ROUTES):
                for resource in snapshot.of_type(type_url).values():
                    for word in self.words:
                        if word.encode() in resource.raw:
                            said = Refusal(type_url, (resource.name,), f"Envoy cannot stand {word}")
                            return Tried({name: said})
        return Tried({})


def change(document, **more):
    return Change(document=document, author="ada", timeout_s=5.0, **more)


@pytest.fixture
async def live(pipeline, document):
    """Revision 1 on two proxies; returns them."""
    fleet = FakeFleet(pipeline.publisher)
    nodes = [fleet.connect("edge1"), fleet.connect("edge2")]
    assert (await pipeline.apply(change(document))).outcome == "live"
    return nodes


@pytest.fixture
def edited(document):
    """Two good edits, and between them a route and a service that the shadow refuses, and what needs them."""
    bad = copy.deepcopy(document)
    edge = bad["edge"]
    edge["services"][0]["timeout"] = "3s"
    edge["services"].append(
        {"name": "evil", "tenant": "retail", "endpoints": [{"address": "10.0.0.9", "port": 1}]}
    )
    edge["routes"] += [
        {"name": "good", "domains": ["shop.example.com"], "prefix": "/good", "service": "shop"},
        {"name": "sick", "domains": ["shop.example.com"], "prefix": "/sick", "service": "shop"},
        {"name": "to-evil", "domains": ["shop.example.com"], "prefix": "/to", "service": "evil"},
    ]
    bad["origins"]["edge.routes[sick]"] = "edge/routes.yml:7:5"
    return bad


async def test_it_goes_on_without_what_is_bad_and_what_needs_it(pipeline, live, edited):
    pipeline.shadows = Shadows("evil", "/sick")
    answer = await pipeline.apply(change(edited, skip_bad=True))
    assert (answer.outcome, answer.number) == ("live", 3), "the change as it was is in the history, refused"
    edge = pipeline.live.site.edge
    assert {route.name for route in edge.routes} == {None, "good"}
    assert edge.service_by_name["shop"].timeout.total_seconds() == 3
    left_out = {one["path"]: one for one in pipeline.live.document["skipped"]}
    assert left_out.keys() == {"services[evil]", "routes[sick]", "routes[to-evil]"}
    assert left_out["routes[sick]"]["words"] == "Envoy cannot stand /sick"
    assert left_out["routes[sick]"]["origin"] == "edge/routes.yml:7:5"
    assert "does not stand without what is left out" in left_out["routes[to-evil]"]["words"]
    assert sum("is left out until it is mended" in note for note in answer.notes) == 3
    assert {node.holds for node in live} == {pipeline.live.snapshots["edge1"].revision}


async def test_without_being_asked_it_leaves_nothing_out(pipeline, live, edited):
    pipeline.shadows = Shadows("evil", "/sick")
    assert (await pipeline.apply(change(edited))).outcome == "refused"
    with pytest.raises(Conflict, match="was refused"):
        await pipeline.apply(change(edited))
    assert (await pipeline.apply(change(edited, skip_bad=True))).outcome == "live"


async def test_it_is_said_until_it_is_mended_also_after_a_restart(pipeline, live, edited):
    pipeline.shadows = Shadows("/sick")
    await pipeline.apply(change(edited, skip_bad=True))
    again = await pipeline.apply(change(edited, skip_bad=True))
    assert again.outcome == "unchanged"
    assert any("routes[sick] is left out" in note for note in again.notes)

    later = Pipeline(pipeline.store, Publisher(), pipeline.ca)
    await later.boot()
    assert [one["path"] for one in later.live.document["skipped"]] == ["routes[sick]"]

    edited["edge"]["routes"][2]["prefix"] = "/well"
    mended = await pipeline.apply(change(edited))
    assert mended.outcome == "live"
    assert "skipped" not in pipeline.live.document


async def test_taking_it_out_of_the_inventory_mends_it_too(pipeline, live, edited):
    pipeline.shadows = Shadows("/sick")
    await pipeline.apply(change(edited, skip_bad=True))
    del edited["edge"]["routes"][2]
    assert (await pipeline.apply(change(edited))).outcome == "unchanged"
    assert "skipped" not in pipeline.live.document
    later = Pipeline(pipeline.store, Publisher(), pipeline.ca)
    await later.boot()
    assert "skipped" not in later.live.document


async def test_a_live_part_that_would_become_bad_stays_as_it_is(pipeline, live, document):
    pipeline.shadows = Shadows("/sick")
    bad = copy.deepcopy(document)
    bad["edge"]["routes"][0]["rewrite"] = {"prefix": "/sick"}
    bad["edge"]["services"][0]["timeout"] = "3s"
    answer = await pipeline.apply(change(bad, skip_bad=True))
    assert answer.outcome == "live"
    [route] = pipeline.live.site.edge.routes
    assert route.rewrite is None and route.prefix == "/old"


async def test_what_is_in_no_part_of_its_own_is_refused_as_ever(pipeline, live, edited):
    class Nothing(Shadows):
        async def try_out(self, old, new):
            refusal = Refusal(CLUSTER, ("x",), "Envoy cannot stand anything")
            return Tried({"edge1": refusal})

    pipeline.shadows = Nothing()
    answer = await pipeline.apply(change(edited, skip_bad=True))
    assert answer.outcome == "refused"
    assert any("skip_bad found nothing to leave out" in note for note in answer.notes)


async def test_a_mark_that_a_document_brings_along_says_nothing(pipeline, live, document):
    other = copy.deepcopy(document)
    other["edge"]["services"][0]["timeout"] = "3s"
    other["skipped"] = [{"path": "routes[x]", "origin": "", "words": "made up"}]
    await pipeline.apply(change(other))
    assert "skipped" not in pipeline.live.document


async def test_nothing_is_left_out_of_a_plan_that_was_reviewed(pipeline, live, edited):
    """`plan` promises what was reviewed or nothing; less than that is something else."""
    pipeline.shadows = Shadows("evil", "/sick")
    plan = (await pipeline.apply(change(edited, dry_run=True))).plan
    answer = await pipeline.apply(change(edited, skip_bad=True, plan=plan))
    assert (answer.outcome, pipeline.live.number) == ("refused", 1)
    assert any("review what is left again" in note for note in answer.notes)
