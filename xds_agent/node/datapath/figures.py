"""Prometheus figures of the datapath: per service and reason, per real, and of the program itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xds_agent.datapath.counters import Count, Counters
from xds_agent.datapath.fill import Fill
from xds_agent.datapath.info import run_time

if TYPE_CHECKING:
    from xds_agent.node.datapath.link import DatapathLink
    from xds_agent.node.datapath.writer import Writer

HOST = "host"
"""Label of what is no service's: the host's own traffic."""


class DatapathFigures(Collector):
    """Reads the maps when it is asked."""

    def __init__(self, link: DatapathLink) -> None:
        self._link = link

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not read maps."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Raises nothing: a map that cannot be read leaves its figures out."""
        up = GaugeMetricFamily("marchproxy_datapath_up", "1 while the datapath runs as the revision says")
        up.add_metric([], float(not self._link.problem))
        yield up
        writer = self._link.writer
        if writer is None:
            return
        try:
            yield from _packets(writer)
            yield from _reals(writer)
            yield from _fill(writer, self._link.fills)
            yield from _program(writer)
        except OSError:
            return


def _packets(writer: Writer) -> Iterator[Metric]:
    counters = Counters(writer.generation)
    packets = CounterMetricFamily(
        "marchproxy_datapath_packets", "Packets by what became of them", labels=["service", "reason"]
    )
    size = CounterMetricFamily(
        "marchproxy_datapath_bytes", "Bytes by what became of them", labels=["service", "reason"]
    )
    monitored = CounterMetricFamily(
        "marchproxy_datapath_monitored_packets", "Packets that monitor mode let pass",
        labels=["service", "reason"],
    )  # fmt: skip
    names = {number: name for name, number in (*writer.services.items(), (HOST, 0))}
    counted = counters.services(names)
    for number, name in names.items():
        for reason, count in counted.get(number, {}).items():
            packets.add_metric([name, reason], count.packets)
            size.add_metric([name, reason], count.bytes)
        for reason, count in counters.monitored(number).items():
            monitored.add_metric([name, reason], count.packets)
    yield from (packets, size, monitored)


def _reals(writer: Writer) -> Iterator[Metric]:
    counters = Counters(writer.generation)
    packets = CounterMetricFamily("marchproxy_datapath_real_packets", "Packets to a real", labels=["real"])
    up = GaugeMetricFamily("marchproxy_datapath_real_up", "1 while a real gets new flows", labels=["real"])
    for key, number in writer.reals.items():
        count: Count = counters.real(number)
        packets.add_metric([str(key)], count.packets)
        up.add_metric([str(key)], float(writer.real_state(key) == "up"))
    served = GaugeMetricFamily(
        "marchproxy_datapath_service_up", "1 while a service has a healthy real", labels=["service"]
    )
    for name, _ in writer.services.items():
        served.add_metric([name], float(writer.is_served(name)))
    yield from (packets, up, served)


def _fill(writer: Writer, walked: Mapping[str, Fill]) -> Iterator[Metric]:
    used = GaugeMetricFamily("marchproxy_datapath_map_entries", "Rows of a map in use", labels=["map"])
    most = GaugeMetricFamily("marchproxy_datapath_map_capacity", "Rows a map has", labels=["map"])
    sizes = writer.generation.sizes
    for name, one in walked.items():
        used.add_metric([name], one.used)
        most.add_metric([name], one.capacity)
    for name, count, capacity in (
        ("services", writer.services.used, sizes.services - 1),
        ("reals", writer.reals.used, sizes.reals - 1),
        ("rings", writer.ring_numbers.used, sizes.services - 1),
    ):
        used.add_metric([name], count)
        most.add_metric([name], capacity)
    yield from (used, most)


def _program(writer: Writer) -> Iterator[Metric]:
    """Run times only where the kernel has counted any: root's sysctl, for which the agent has no right."""
    size = GaugeMetricFamily("marchproxy_datapath_program_instructions", "Instructions the verifier walked")
    size.add_metric([], writer.generation.instructions)
    yield size
    found = run_time(writer.generation.program_fd)
    if not found.runs:
        return
    runs = CounterMetricFamily("marchproxy_datapath_program_runs", "Packets the program was timed on")
    seconds = CounterMetricFamily("marchproxy_datapath_program_seconds", "Time they took together")
    runs.add_metric([], found.runs)
    seconds.add_metric([], found.ns / 1e9)
    yield from (runs, seconds)
