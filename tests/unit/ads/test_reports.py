"""Who fell silent: offline after 30 s, once."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import grpc

from xds_agent.ads.gate import Gate
from xds_agent.ads.reports import Offline, Reports
from xds_agent.ads.revocations import Revocations
from xds_agent.node.report import Reporter
from xds_agent.proto import marchproxy_pb2 as pb


class OpenGate:
    """Lets everybody in as edge1."""

    async def admit(self, context):
        return SimpleNamespace(name="edge1")

    @contextlib.contextmanager
    def watching(self, peer, address, close):
        yield


@contextlib.asynccontextmanager
async def serving(reports):
    """A channel to a server of `reports`, which ends with the block whatever happens in it."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((reports.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def answer(question):
    return pb.Answer(id=question.id)


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_silent_node_is_offline_after_thirty_seconds_and_only_once():
    now, said = [1000.0], []
    reports = Reports(
        Gate("marchproxy.internal", Revocations(None)),
        lambda *report: said.append(report),
        clock=lambda: now[0],
        wall=lambda: now[0] + 1_800_000_000,
    )
    reports.hear("edge1", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    reports.hear("edge2", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    now[0] += 25
    reports.hear("edge2", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    now[0] += 6
    reports.look()
    reports.look()
    assert said[3:] == [("edge1", Offline(1_800_001_000.0))]


def test_a_date_that_jumps_takes_no_node_offline():
    date, said = [1_800_000_000.0], []
    reports = Reports(
        Gate("marchproxy.internal", Revocations(None)),
        lambda *report: said.append(report),
        clock=lambda: 1000.0,
        wall=lambda: date[0],
    )
    reports.hear("edge1", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    date[0] += 86_400
    reports.look()
    assert len(said) == 1


async def test_a_node_that_is_asked_reports_at_once_with_counters():
    """Over a real channel: the node's own Reporter, whose next heartbeat is due in ten seconds."""
    counted, heard = [], asyncio.Event()

    def on_report(name, report):
        # Only what control has heard proves that its side of the stream is open and can be asked.
        if isinstance(report, pb.Heartbeat):
            heard.set()

    async def heartbeat(counters):
        counted.append(counters)
        return pb.Heartbeat(envoy_state="LIVE")

    async def hello():
        return pb.Hello()

    reports = Reports(OpenGate(), on_report)
    async with serving(reports) as channel, running(Reporter(hello, heartbeat, answer).run(channel)):
        await asyncio.wait_for(heard.wait(), 20)
        heard.clear()
        reports.ask({"another"})
        reports.ask({"edge1"})
        await asyncio.wait_for(heard.wait(), 20)
    assert counted == [True, True]


def test_a_listener_that_fails_costs_the_node_nothing(caplog):
    def fail(name, report):
        raise OSError("disk full")

    reports = Reports(Gate("marchproxy.internal", Revocations(None)), fail)
    reports.hear("edge1", pb.ReportRequest(hello=pb.Hello()))
    assert "taking a report of edge1 failed" in caplog.text


async def test_a_report_stream_that_ended_under_a_write_is_opened_again(monkeypatch):
    monkeypatch.setattr("xds_agent.node.report.RETRY_S", 0.0)
    opened, hellos = asyncio.Event(), []

    async def hello():
        hellos.append(1)
        if len(hellos) == 1:
            raise asyncio.InvalidStateError("RPC already finished.")
        return pb.Hello(agent_version="1")

    async def heartbeat(counters):
        opened.set()
        return pb.Heartbeat(envoy_state="LIVE")

    reports = Reports(OpenGate(), lambda name, report: None)
    async with serving(reports) as channel, running(Reporter(hello, heartbeat, answer).run(channel)):
        await asyncio.wait_for(opened.wait(), 20)


async def test_a_question_is_answered_with_its_number_by_the_very_node_that_was_asked():
    answers = asyncio.Queue()
    connected = asyncio.Event()

    def on_report(name, report):
        if isinstance(report, pb.Answer):
            answers.put_nowait((name, report))
        else:
            connected.set()

    async def hello():
        return pb.Hello()

    async def heartbeat(counters):
        return pb.Heartbeat(envoy_state="LIVE")

    async def connections(question):
        return pb.Answer(id=question.id, connections={"https": 40})

    reports = Reports(OpenGate(), on_report)
    reporter = Reporter(hello, heartbeat, connections)
    async with serving(reports) as channel, running(reporter.run(channel)):
        await asyncio.wait_for(connected.wait(), 20)
        reports.tell({"another"}, pb.ReportResponse(question=pb.Question(id=6, connections=True)))
        reports.tell({"edge1"}, pb.ReportResponse(question=pb.Question(id=7, connections=True)))
        name, said = await asyncio.wait_for(answers.get(), 20)
    assert (name, said.id, dict(said.connections)) == ("edge1", 7, {"https": 40})
    assert answers.empty()
