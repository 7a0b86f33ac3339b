"""Steering at work, on the pipeline: what it remembers of what nodes say."""

import itertools

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout import steerer as module
from xds_agent.rollout.change import Change
from xds_agent.rollout.steerer import Steerer
from xds_agent.steering.deciding import moves
from xds_agent.steering.site import scene_of
from xds_agent.steering.world import Region
from xds_agent.store import StoreError, audit, placements

AWS, GCP = Region("aws", "us-east-1"), Region("gcp", "us-central1")


def steered(document):
    document["edge"]["services"][0]["steering"] = {"order": ["aws", "gcp"]}
    document["edge"]["services"][0]["endpoints"] = [
        {"address": f"10.{n}.0.1", "port": 80, **place._asdict()} for n, place in enumerate((AWS, GCP), 1)
    ]
    document["edge"]["services"][0]["ejection"] = {}
    document["hosts"]["edge1"] |= AWS._asdict()


async def test_what_the_database_did_not_take_is_written_down_later(pipeline, site_of, monkeypatch):
    steerer, away = Steerer(pipeline), True
    write = pipeline.store.write

    def perhaps():
        if away:
            raise StoreError("the database is gone")
        return write()

    monkeypatch.setattr(pipeline.store, "write", perhaps)
    _scene, decisions = steerer.decide(site_of(steered), pipeline.now())
    assert decisions
    await steerer._adopt(decisions)
    await steerer._adopt(decisions)
    # It is decided all the same: requests go on where they go.
    assert steerer.decisions == decisions
    away = False
    await steerer._pay()
    with pipeline.store.read() as session:
        stored = placements.load(session)
        assert stored.keys() == decisions.keys()
        assert not moves(stored, decisions)
        # Said once in the audit, with its reasons, and owed no more.
        assert [row.action for row in audit.newest(session)] == ["placement.changed"]
    assert not steerer._owed


async def test_what_most_proxies_refuse_is_tried_ever_later(pipeline, site_of, document, monkeypatch):
    steered(document)
    now = 1000.0
    steerer, asked = Steerer(pipeline, clock=lambda: now), []
    await pipeline.apply(Change(document=document, author="ada", timeout_s=5.0))
    await steerer.look()
    [(place_, named)] = [(p, n) for p, n in steerer.decisions.items() if "shop" in n][:1]

    async def place(decisions, *, of):
        asked.append(now)
        return "edge1: no room"

    monkeypatch.setattr(pipeline.updates, "place", place)
    monkeypatch.setattr(module, "moves", lambda before, after: {(place_, "shop"): named["shop"]})
    for _ in range(100):
        await steerer.look()
        now += 30.0
    assert [round(later - before) for before, later in itertools.pairwise(asked)] == [60, 120, 240, 480, 960]


async def test_a_node_cannot_fill_controls_memory_with_names(pipeline, site_of):
    steerer = Steerer(pipeline)
    steerer.scene = scene_of(site_of(steered))
    told = [pb.ServiceLoad(service=f"none{n}", cloud="aws", region="us-east-1") for n in range(100)]
    told += [pb.ServiceLoad(service="shop", cloud=f"cloud{n}") for n in range(100)]
    told.append(pb.ServiceLoad(service="shop", cloud="aws", region="us-east-1", requests=7))
    steerer.heard("edge1", pb.Heartbeat(loads=told))
    assert list(steerer.loads.flows) == [("edge1", "shop", AWS)]
