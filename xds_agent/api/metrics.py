"""What Prometheus reads on port 8000: nodes, acknowledgements, refusals, push-to-ACK, certificates."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from xds_agent.protocol.outcomes import Acknowledged, Outcome, Refused
from xds_agent.rollout import material
from xds_agent.rollout.orders import Orders
from xds_agent.rollout.pipeline import Pipeline

# A change is live in a few milliseconds on one proxy; a thousand take about 0.1 s.
_BUCKETS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 5, 15)


class ControlMetrics:
    """Counts what happens, and reads the rest from the pipeline when asked."""

    def __init__(
        self, pipeline: Pipeline, orders: Orders, leading: Callable[[], bool] = lambda: True,
        certificates: Mapping[str, dt.datetime] | None = None,
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._state = _State(pipeline, orders, leading, certificates)
        self.registry.register(self._state)
        self._acks = Counter("marchproxy_acks", "Revisions acknowledged by nodes.", registry=self.registry)
        self._nacks = Counter(
            "marchproxy_nacks", "Revisions refused by nodes.", ["node"], registry=self.registry
        )
        self._push_to_ack = Histogram(
            "marchproxy_push_to_ack_seconds", "From publishing a revision to a node's acknowledgement.",
            buckets=_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.applies = Counter(
            "marchproxy_applies", "Changes asked for, by how they ended.", ["outcome"], registry=self.registry
        )
        # A counter that begins with its first event is no increase to Prometheus.
        for outcome in ("live", "refused", "rolled-back", "unchanged", "invalid", "conflict"):
            self.applies.labels(outcome)
        self.refused_peers = Counter(
            "marchproxy_refused_peers", "Connections of nodes turned away.", registry=self.registry
        )

    def drifted(self, lines: int) -> None:
        """What a look for drift found: lines in words by which inventory and edge differ."""
        self._state.drift = (lines, time.time())

    def heard(self, outcome: Outcome) -> None:
        """Listener of the publisher."""
        if isinstance(outcome, Acknowledged):
            self._acks.inc()
            since = self._pipeline.publisher.published_at.pop(outcome.node, None)
            if since is not None:
                self._push_to_ack.observe(time.monotonic() - since)
        elif isinstance(outcome, Refused):
            self._nacks.labels(outcome.node).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _State(Collector):
    """Gauges that would only ever be copies of what the pipeline knows."""

    def __init__(
        self, pipeline: Pipeline, orders: Orders, leading: Callable[[], bool],
        certificates: Mapping[str, dt.datetime] | None,
    ) -> None:  # fmt: skip
        self._certificates = certificates if certificates is not None else {}
        self.drift: tuple[int, float] | None = None
        self._pipeline = pipeline
        self._orders = orders
        self._leading = leading

    def collect(self) -> Iterable[Metric]:
        pipeline = self._pipeline
        leads = self._leading()
        yield GaugeMetricFamily("marchproxy_leading", "1 on the control host that leads.", value=int(leads))
        if not leads:
            # What is known of nodes elsewhere is the leader's to tell.
            return
        states = [view.state for view in pipeline.publisher.nodes().values()]
        nodes = GaugeMetricFamily("marchproxy_nodes", "Proxies of the live revision.", labels=["state"])
        for state in ("active", "pending", "refused", "offline"):
            nodes.add_metric([state], states.count(state))
        yield nodes
        yield from self._of_each_node()
        if self.drift is not None:
            lines, at = self.drift
            yield GaugeMetricFamily(
                "marchproxy_inventory_drift", "Lines by which inventory and edge differ.", value=lines
            )
            yield GaugeMetricFamily(
                "marchproxy_inventory_checked_seconds",
                "When drift was last looked for (Unix time).",
                value=at,
            )
        connected = len(states) - states.count("offline")
        yield GaugeMetricFamily("marchproxy_connected_nodes", "Nodes with an open stream.", value=connected)
        live = pipeline.live
        number = live.number if live is not None else 0
        yield GaugeMetricFamily("marchproxy_revision", "Number of the live revision.", value=number)
        ends = GaugeMetricFamily(
            "marchproxy_certificate_expiry_seconds",
            "When a certificate ends (Unix time).",
            labels=["certificate"],
        )
        if live is not None:
            for name, until in material.expiries(live.material).items():
                ends.add_metric([name], until.timestamp())
        yield ends
        failures = GaugeMetricFamily(
            "marchproxy_acme_failures", "Failed orders of a certificate since the last good one.",
            labels=["certificate"],
        )  # fmt: skip
        for name, failure in self._orders.failures.items():
            failures.add_metric([name], failure.count)
        yield failures

    def _of_each_node(self) -> Iterable[Metric]:
        """For alerts that name the node."""
        up = GaugeMetricFamily("marchproxy_node_up", "1 while a proxy is connected.", labels=["node"])
        refuses = GaugeMetricFamily(
            "marchproxy_node_refuses", "1 while a proxy refuses what it should hold.", labels=["node"]
        )
        ends = GaugeMetricFamily(
            "marchproxy_node_certificate_expiry_seconds",
            "When a host's own certificate ends (Unix time).",
            labels=["node"],
        )
        for name, view in self._pipeline.publisher.nodes().items():
            up.add_metric([name], int(view.state != "offline"))
            refuses.add_metric([name], int(view.state == "refused"))
            if (until := self._certificates.get(name)) is not None:
                ends.add_metric([name], until.timestamp())
        yield from (up, refuses, ends)
