"""How many connections a change closes: what each host says, and that what nobody says is not none."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_agent.explain.closings import Closing
from xds_agent.explain.resets import Reset, Where
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout import questions
from xds_agent.rollout.questions import Questions, count_open

WHY = "moves from XDP load balancing to Envoy's tcp_proxy"
SAYS: Mapping[Where, pb.Answer] = {
    "flows": pb.Answer(flows={"db": 600}),
    "connections": pb.Answer(connections={"tcp-7003": 600}),
    "sessions": pb.Answer(sessions={"db": 600}, sessions_known=True),
}


def reset(proxy: str, counted: Where = "flows", *, shared: bool = False) -> Reset:
    return Reset(proxy, "db", WHY, counted, "tcp-7003" if counted == "connections" else "", shared)


async def said(
    resets: Collection[Reset], answers: Mapping[str, pb.Answer], *closings: Closing, **sessions: str
) -> list[object]:
    """Agents that answer at once; those that `answers` lacks never do."""
    asking = Questions()

    def tell(names: Collection[str], response: pb.ReportResponse) -> None:
        for name in set(names) & answers.keys():
            answer = pb.Answer()
            answer.CopyFrom(answers[name])
            answer.id = response.question.id
            asking.heard(name, answer)

    asking.tell = tell
    listeners = {listener.replace("_", "-"): service for listener, service in sessions.items()}
    connected = [one.proxy for one in (*resets, *closings)]
    lines = await count_open(
        asking, closings, sorted(resets, key=lambda one: one.proxy), listeners, connected
    )
    return [line["text"] for line in lines]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not answered will not."""
    monkeypatch.setattr(questions, "COUNTS_WITHIN_S", 0.01)


@pytest.mark.parametrize("counted", SAYS)
async def test_a_service_that_moves_says_how_many_and_who_does_not_say(counted: Where) -> None:
    hosts = [reset(name, counted) for name in ("edge1", "edge2", "edge3")]
    both = dict.fromkeys(("edge1", "edge2"), SAYS[counted])
    assert await said(hosts, both) == [
        f"db {WHY}: 1,200 connections open on 2 of 3 hosts would be reset (edge3 does not say)"
    ]
    assert await said(hosts[:2], both) == [f"db {WHY}: 1,200 connections open on 2 hosts would be reset"]


async def test_an_agent_of_before_is_unknown_and_not_none() -> None:
    """It answers the part of the question that it knows."""
    older = {"edge1": pb.Answer(connections={"https": 3})}
    for counted in ("flows", "sessions"):
        assert await said([reset("edge1", counted)], older) == [
            f"db {WHY}: its open connections would be reset; how many, edge1 does not say"
        ]
    assert await said([reset("edge1", "connections")], older) == [
        f"db {WHY}: 0 connections open on 1 host would be reset"
    ]


async def test_envoy_that_is_silent_hides_no_flows_of_xdp() -> None:
    answer = {"edge1": pb.Answer(flows={"db": 1}, error="its Envoy does not say")}
    assert await said([reset("edge1")], answer) == [f"db {WHY}: 1 connection open on 1 host would be reset"]
    [text] = await said([reset("edge1", "connections")], answer)
    assert text.endswith("how many, edge1 does not say")


async def test_connections_of_a_shared_port_and_of_no_table() -> None:
    answers = {"edge1": SAYS["connections"]}
    assert await said([reset("edge1", "connections", shared=True)], answers) == [
        f"db {WHY}: at most 600 connections open on 1 host would be reset"
    ]
    [text] = await said([reset("edge1", "nowhere")], answers)
    assert text.endswith("how many no table holds (gue and dsr keep none)")


async def test_sessions_of_udp_are_not_said_to_be_no_connections() -> None:
    goes = Closing("edge1", "udp-7004", "the listener goes")
    assert await said([], {"edge1": SAYS["sessions"]}, goes, udp_7004="db") == [
        "closes 600 open sessions of listener udp-7004 on edge1"
    ]
    assert await said([], {"edge1": pb.Answer()}, goes, udp_7004="db") == [
        "how many sessions of listener udp-7004 are open on edge1 could not be asked"
    ]


@given(st.lists(st.none() | st.integers(0, 10**6), min_size=1, max_size=6))
async def test_the_sum_is_of_those_who_say(counts: list[int | None]) -> None:
    hosts = {f"edge{number}": count for number, count in enumerate(counts)}
    answers = {name: pb.Answer(flows={} if count is None else {"db": count}) for name, count in hosts.items()}
    [text] = await said([reset(name) for name in hosts], answers)
    assert isinstance(text, str)
    total = sum(count for count in counts if count is not None)
    assert (f" {total:,} connection" in text) == any(count is not None for count in counts)
    assert all((name in text) == (count is None) for name, count in hosts.items())
