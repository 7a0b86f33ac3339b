"""Who fell silent: offline after 30 s, once."""

from __future__ import annotations

from xds_agent.ads.gate import Gate
from xds_agent.ads.reports import Offline, Reports
from xds_agent.ads.revocations import Revocations
from xds_agent.proto import marchproxy_pb2 as pb


def test_a_silent_node_is_offline_after_thirty_seconds_and_only_once():
    now, said = [1000.0], []
    reports = Reports(
        Gate("marchproxy.internal", Revocations(None)),
        lambda *report: said.append(report),
        clock=lambda: now[0],
    )
    reports.hear("edge1", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    reports.hear("edge2", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    now[0] += 25
    reports.hear("edge2", pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
    now[0] += 6
    reports.look()
    reports.look()
    assert said[3:] == [("edge1", Offline(1000.0))]


def test_a_listener_that_fails_costs_the_node_nothing(caplog):
    def fail(name, report):
        raise OSError("disk full")

    reports = Reports(Gate("marchproxy.internal", Revocations(None)), fail)
    reports.hear("edge1", pb.ReportRequest(hello=pb.Hello()))
    assert "taking a report of edge1 failed" in caplog.text
