"""Who is silent: nobody heard the node, whichever control host it speaks to."""

from __future__ import annotations

import pytest

from tests.support.fake_fleet import FakeFleet
from xds_agent.ads.reports import Offline
from xds_agent.api.recorder import Recorder
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.outcomes import Connected
from xds_agent.rollout.publisher import Publisher
from xds_agent.snapshot.resource import EMPTY
from xds_agent.store import Store


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def publisher():
    publisher = Publisher()
    FakeFleet(publisher)
    publisher.publish({"edge1": EMPTY}, 1)
    return publisher


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recorder(publisher, clock, tmp_path):
    store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    recorder = Recorder(store, publisher, clock=clock)
    publisher.listeners.append(recorder.heard)
    yield recorder
    store.close()


def test_a_node_that_moved_to_another_control_host_is_not_silent_at_the_one_it_left(
    publisher, recorder, clock
):
    """The host it left has not heard it for 30 s, which once made it offline until its next heartbeat."""
    recorder.reported("edge1", pb.Hello())
    clock.now_s += 21
    publisher.heard_from("control2", Connected("edge1", 0))
    clock.now_s += 4
    recorder.reported("edge1", pb.Heartbeat())
    clock.now_s += 6
    recorder.reported("edge1", Offline(0.0))
    assert publisher.silent == set()


def test_a_node_that_nobody_has_heard_is_silent_until_it_speaks(publisher, recorder, clock):
    publisher.heard_from("control2", Connected("edge1", 0))
    recorder.reported("edge1", pb.Hello())
    clock.now_s += 31
    recorder.reported("edge1", Offline(0.0))
    assert publisher.silent == {"edge1"}
    recorder.reported("edge1", pb.Heartbeat())
    assert publisher.silent == set()


def test_a_new_leader_that_never_heard_a_node_believes_who_says_that_it_is_silent(publisher, recorder):
    recorder.reported("edge1", Offline(0.0))
    assert publisher.silent == {"edge1"}
