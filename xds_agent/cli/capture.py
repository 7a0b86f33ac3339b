"""`datapath capture` and `datapath flows`: what XDP saw and decided, also of what the kernel never sees."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from xds_agent.cli.daemons import NODE_YML
from xds_agent.cli.datapath import Config, Json, live_state
from xds_agent.cli.errors import CliError

if TYPE_CHECKING:
    from xds_agent.datapath.counters import Counters
    from xds_agent.datapath.sampling import Ask, Sample, Tap

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
_KINDS = ("pass", "drop", "send")
_WHOLE_BYTES = 3584
# Rings are looked at this often; a socket that got something is read at once.
_LOOK_S = 0.02

Service = Annotated[str, typer.Option("--service", help="Only packets in this service's name; host: none's.")]
Reason = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Only this fate: a reason of `datapath top`, or pass, drop, send. Repeat."),
]
Prefix = Annotated[str, typer.Option("--prefix", help="Only from or to this network, as the packet came.")]
Port = Annotated[int, typer.Option("--port", help="Only from or to this port.", min=0, max=65535)]
Protocol = Annotated[str, typer.Option("--protocol", help="tcp, udp, icmp, icmpv6 or a number.")]
Seconds = Annotated[float, typer.Option("--seconds", help="End after so long; 0: not by time.", min=0)]


def capture(
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="pcapng file to write; -: standard output.")
    ] = None,
    service: Service = "",
    reason: Reason = None,
    prefix: Prefix = "",
    port: Port = 0,
    protocol: Protocol = "",
    count: Annotated[int, typer.Option("--count", help="End after so many; 0: not by number.", min=0)] = 1000,
    seconds: Seconds = 60.0,
    one_in: Annotated[
        int, typer.Option("--one-in", help="Of so many packets that match, look at one.", min=1)
    ] = 1,
    size: Annotated[
        int, typer.Option("--bytes", help="Of each frame at most.", min=64, max=_WHOLE_BYTES)
    ] = _WHOLE_BYTES,
    incoming: Annotated[
        bool, typer.Option("--incoming", help="Not also, of what XDP sends on, how it leaves.")
    ] = False,
    zero_copy: Annotated[
        bool,
        typer.Option(
            "--zero-copy",
            help="Where the driver offers it. Its queues stand still for a moment, to begin and to end.",
        ),
    ] = False,
    config: Config = NODE_YML,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Packets as they came, each with its fate: also what XDP dropped or sent on, which tcpdump never sees.

    Without -o a line for each. In the file, reason and service are a packet's comment (Wireshark and tshark
    show it). Nothing is taken away from traffic: each packet meets its fate, captured or not.

    [dim]Examples:[/dim]
      xds-agent datapath capture --service dns --count 1000 -o /tmp/dns.pcap
      xds-agent datapath capture --reason drop_denied --prefix 203.0.113.0/24
      ssh edge1 xds-agent datapath capture --reason drop -o - | wireshark -k -i -
    """
    state = live_state(config)
    ask = asked_for(state, service, reason, prefix, port, protocol, one_in=one_in)
    ask = _with(ask, bytes=size, leaving=not incoming)
    with _Run(state, ask, seconds=seconds, sockets=True, zero_copy=zero_copy) as run, ExitStack() as files:
        show = _shower(state, run.services, out, files, as_json=as_json)
        with contextlib.suppress(BrokenPipeError):
            for sample in run.samples():
                show(sample)
                if count and run.captured >= count:
                    break
        _say_end(run, as_json=as_json)


def flows(
    service: Service = "",
    reason: Reason = None,
    prefix: Prefix = "",
    port: Port = 0,
    protocol: Protocol = "",
    one_in: Annotated[
        int, typer.Option("--one-in", help="Of so many packets that match, look at one.", min=1)
    ] = 100,
    every: Annotated[float, typer.Option("--every", help="Seconds that are summed.", min=0.1)] = 5.0,
    count: Annotated[int, typer.Option("--count", help="Intervals; 0: until interrupted.", min=0)] = 0,
    most: Annotated[int, typer.Option("--most", help="Rows of the table.", min=1)] = 25,
    config: Config = NODE_YML,
    as_json: Json = False,
) -> None:
    """Who sends how much to whom, with which fate, estimated from samples. --json: a line for each flow.

    The inventory can have it written all the time: protection.flow_log.

    [dim]Examples:[/dim]
      xds-agent datapath flows --reason drop --count 1
      xds-agent datapath flows --service db --one-in 1 --json
    """
    from xds_agent.cli.datapath_words import show_flows
    from xds_agent.node.datapath.flows import FlowTable

    state = live_state(config)
    ask = asked_for(state, service, reason, prefix, port, protocol, one_in=one_in)
    with _Run(state, ask, seconds=0.0, sockets=False) as run:
        done = 0
        while not run.ended and not (count and done >= count):
            table, begin = FlowTable(), time.time()
            table.add(run.samples(for_s=every))
            lines = table.take(run.services, start_s=begin, end_s=time.time(), one_in=one_in)
            done += 1
            if as_json:
                for line in lines:
                    typer.echo(json.dumps(line))
            else:
                show_flows(lines[:most], left_out=max(0, len(lines) - most), seconds=time.time() - begin)


class _Run:
    """One reader at work: from the first packet to the signal, the time or the number that ends it."""

    def __init__(
        self, state: Mapping[str, Any], ask: Ask, *, seconds: float, sockets: bool, zero_copy: bool = False
    ) -> None:
        self.services = {0: "host", **{one["id"]: one["name"] for one in state["services"]}}
        self.ended = False
        self.captured = 0
        self._state, self._ask = state, ask
        self._sockets, self._zero_copy = sockets, zero_copy
        self._end_s = time.monotonic() + seconds if seconds else float("inf")
        self._closing = ExitStack()
        self._poll = select.poll()
        self.tap: Tap

    def __enter__(self) -> _Run:
        from xds_agent.datapath.libbpf import Unavailable
        from xds_agent.datapath.sampling import Tap, TapTaken
        from xds_agent.datapath.xsk import queues_of
        from xds_agent.node.datapath.pinned import NotRunning, Pinned

        for number in (signal.SIGINT, signal.SIGTERM):
            self._closing.callback(signal.signal, number, signal.signal(number, self._stop))
        try:
            pinned = self._closing.enter_context(closing(Pinned.of_state(self._state)))
            if "sampling" not in pinned.maps:
                words = "the program that runs here is an older one, which has no samples"
                raise CliError(words, "restart the agent: systemctl restart xds-agent-node")
            places = [
                (one["index"], queue)
                for one in (self._state["interfaces"] if self._sockets else ())
                for queue in queues_of(one["name"])
            ]
            self._counters, self._lost_before = pinned.counters, self._lost_in_rings(pinned.counters)
            self.tap = Tap(pinned, "capture", self._ask, queues=places, zero_copy=self._zero_copy)
            self._closing.callback(self.tap.close)
        except (NotRunning, Unavailable, TapTaken) as error:
            self._closing.close()
            raise CliError(str(error)) from error
        except OSError as error:
            self._closing.close()
            raise CliError(str(error), "run it as root, on the host itself") from error
        except BaseException:
            self._closing.close()
            raise
        for one in self.tap.sockets:
            self._poll.register(one, select.POLLIN)
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.close()

    def samples(self, *, for_s: float = float("inf")) -> Iterator[Sample]:
        """As they come, until it ends or this time is over; also what came just before that."""
        until, over = min(self._end_s, time.monotonic() + for_s), False
        while not over:
            over = self.ended or time.monotonic() >= until
            if not over:
                self._poll.poll(_LOOK_S * 1000)
            for sample in self.tap.read():
                # What left belongs to what came, and counts with it.
                self.captured += not sample.leaving
                yield sample

    def lost(self) -> dict[str, int]:
        """Samples that never came, by what the program and the kernel call it. The flow log's are among those
        of the program."""
        rings = self._lost_in_rings(self._counters) - self._lost_before
        return ({"note_sample_lost": rings} if rings else {}) | self.tap.lost_by_sockets()

    def _lost_in_rings(self, counters: Counters) -> int:
        found = counters.services(set(self.services))
        return sum(one["note_sample_lost"].packets for one in found.values() if "note_sample_lost" in one)

    def _stop(self, *_signal: object) -> None:
        self.ended = True


def asked_for(
    state: Mapping[str, Any], service: str, reasons: list[str] | None, prefix: str, port: int, protocol: str,
    *, one_in: int,
) -> Ask:  # fmt: skip
    """Raises CliError for words that name nothing."""
    from xds_agent.datapath.sampling import Ask

    return Ask(
        one_in=one_in,
        network=_network(prefix),
        port=port,
        protocol=_protocol(protocol),
        reasons=_reasons(state, reasons or []),
        service=_service(state, service),
    )


def _with(ask: Ask, **more: Any) -> Ask:
    from dataclasses import replace

    return replace(ask, **more)


def _network(text: str) -> Any:
    if not text:
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise CliError(f"--prefix: {error}", "such as 203.0.113.0/24 or 2001:db8::/32") from error


def _protocol(text: str) -> int:
    number = _PROTOCOLS.get(text, int(text) if text.isdigit() else -1) if text else 0
    if not 0 <= number <= 255:
        raise CliError(f"--protocol: {text} is none", f"one of {', '.join(_PROTOCOLS)}, or its number")
    return number


def _service(state: Mapping[str, Any], name: str) -> int | None:
    if not name:
        return None
    numbers = {"host": 0, **{one["name"]: one["id"] for one in state["services"]}}
    if numbers.get(name) is None:
        raise CliError(f"--service: XDP of this host knows no {name}", f"it knows {', '.join(numbers)}")
    return int(numbers[name])


def _reasons(state: Mapping[str, Any], words: list[str]) -> list[str]:
    """Names of reasons; a kind stands for all of its own."""
    from xds_agent.node.datapath.pinned import reason_names

    names = [name for name in reason_names(Path(state["program"])) if name.partition("_")[0] in _KINDS]
    found: set[str] = set()
    for word in words:
        chosen = [name for name in names if word in (name, name.partition("_")[0])]
        if not chosen:
            raise CliError(f"--reason: there is no {word}", f"one of {', '.join((*_KINDS, *names))}")
        found.update(chosen)
    return sorted(found)


def _shower(
    state: Mapping[str, Any], services: Mapping[int, str], out: Path | None, files: ExitStack, *,
    as_json: bool,
) -> Callable[[Sample], None]:  # fmt: skip
    """What is done with each sample."""
    from xds_agent.cli.datapath_words import sample_line
    from xds_agent.node.datapath.pcapng import Writer

    if out is None:
        line = _json_line if as_json else sample_line
        return lambda sample: typer.echo(line(sample, services))
    try:
        file: IO[bytes] = sys.stdout.buffer if str(out) == "-" else files.enter_context(out.open("wb"))
        interfaces = {one["index"]: one["name"] for one in state["interfaces"]}
        writer = Writer(file, interfaces=interfaces, services=services)
    except OSError as error:
        raise CliError(f"{out}: {error.strerror}") from error

    def write(sample: Sample) -> None:
        writer.write(sample)
        file.flush()

    return write


def _json_line(sample: Sample, services: Mapping[int, str]) -> str:
    said = {
        "time_ns": sample.time_ns, "reason": sample.reason, "monitored": sample.monitored,
        "service": services.get(sample.service, f"#{sample.service}"), "leaving": sample.leaving,
        "interface": sample.interface, "queue": sample.queue, "bytes": sample.length,
        "frame": sample.frame.hex(),
    }  # fmt: skip
    return json.dumps(said)


def _say_end(run: _Run, *, as_json: bool) -> None:
    """On standard error, so that a capture can go through a pipe."""
    modes = sorted({one.mode for one in run.tap.sockets})
    lost = run.lost()
    if as_json:
        typer.echo(json.dumps({"captured": run.captured, "afxdp": modes, "lost": lost}), err=True)
        return
    words = ", ".join(f"{count} {name}" for name, count in lost.items())
    typer.echo(
        f"{run.captured} packets captured; AF_XDP for what is dropped, {' and '.join(modes) or 'no'} mode on "
        f"{len(run.tap.sockets)} queues" + (f"; samples lost: {words}" if words else ""),
        err=True,
    )
