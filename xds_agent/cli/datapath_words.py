"""Tables of the datapath for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xds_agent.cli import output

if TYPE_CHECKING:
    from xds_agent.datapath.sampling import Sample
    from xds_agent.node.datapath.replay import Replayed

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
Counts = Mapping[str, Mapping[str, Mapping[str, int]]]


def show_status(state: Mapping[str, Any], counts: Counts) -> None:
    """What runs, the services with their reals, and the counters."""
    console = Console()
    where = ", ".join(
        f"{one['name']} ({one['driver'] or 'no driver'}, MTU {one['mtu']})" for one in state["interfaces"]
    )
    if state["problem"]:
        console.print(f"[red]{state['problem']}[/]", soft_wrap=True)
    if state.get("missing"):
        console.print(f"[yellow]not here: {state['missing']}[/]", soft_wrap=True)
    console.print(f"revision {state['revision'] or 'none'}, {state['mode']} XDP on {where or 'no interface'}")
    if "layout" not in state:
        return
    monitor = "[yellow]monitor mode: nothing is dropped[/]; " if state.get("monitor") else ""
    console.print(f"{monitor}{state['deny']} networks denied, {state['exempt']} exempt")
    for one in state["timed"]:
        console.print(f"denied by hand until {one['until']} (Unix time): {one['network']}")
    table = Table("service", "reached at", "forward", "real", "state", "")
    for service in state["services"]:
        fronts = "\n".join(
            f"{_PROTOCOLS.get(one['protocol'], one['protocol'])} {one['address']}:{one['port']}"
            for one in service["fronts"]
        )
        nobody = {"address": "this host's proxy", "port": 0, "state": "", "why": ""}
        by_proxy = [nobody] if service["forward"] == "kernel" else [{}]
        for at, real in enumerate(service["reals"] or by_proxy):
            first = (service["name"], fronts, service["forward"]) if at == 0 else ("", "", "")
            table.add_row(*first, *_real(real))
    console.print(table)
    packets = Table("service", "reason", "packets", "bytes")
    for name, reasons in counts.items():
        for reason, one in sorted(reasons.items()):
            packets.add_row(name, reason, str(one["packets"]), str(one["bytes"]))
    console.print(packets)


def _real(real: Mapping[str, Any]) -> tuple[str, str, str]:
    if not real:
        return "none", "", ""
    port = f":{real['port']}" if real["port"] else ""
    return f"{real['address']}{port}", real["state"], real["why"]


def rates(before: Counts, after: Counts, seconds: float) -> dict[str, Any]:
    """Packets a second by service and reason, and by tier; reasons with none are left out."""
    found: dict[str, dict[str, float]] = {}
    tiers = {"xdp": 0.0, "host and envoy": 0.0}
    for name, reasons in after.items():
        for reason, one in reasons.items():
            was = before.get(name, {}).get(reason, {}).get("packets", 0)
            rate = max(0, one["packets"] - was) / seconds
            if rate:
                found.setdefault(name, {})[reason] = round(rate, 1)
            if reason.startswith("pass_"):
                tiers["host and envoy"] += rate
            elif not reason.startswith("note_"):
                tiers["xdp"] += rate
    total = sum(tiers.values())
    shares = {tier: round(100 * rate / total, 1) if total else 0.0 for tier, rate in tiers.items()}
    return {"packets_per_second": found, "share_percent": shares}


def show_top(found: Mapping[str, Any]) -> None:
    """One look."""
    console = Console()
    table = Table("service", "reason", "packets/s")
    for name, reasons in found["packets_per_second"].items():
        for reason, rate in sorted(reasons.items(), key=lambda one: -one[1]):
            table.add_row(name, reason, f"{rate:,.0f}")
    console.print(table)
    shares = ", ".join(f"{share:g} % by {tier}" for tier, share in found["share_percent"].items())
    console.print(f"handled {shares}")


def show_packet(number: int, found: Replayed) -> None:
    """A packet's way."""
    console = Console()
    console.print(f"[bold]packet {number}: {found.verdict}[/] ({found.reason})")
    for stage in found.stages:
        where = escape(", ".join(part for part in (stage.path, output.place(stage.origin or None)) if part))
        path = f"  [dim]{where}[/]" if where else ""
        console.print(f"  {stage.stage}: {stage.text}{path}", soft_wrap=True)


def sample_line(sample: Sample, services: Mapping[int, str]) -> str:
    """One captured packet: when, what became of it, in whose name, who to whom."""
    when = datetime.fromtimestamp(sample.time_ns / 1e9).strftime("%H:%M:%S.%f")
    fate = sample.reason + (f" ({sample.monitored} but for monitor mode)" if sample.monitored else "")
    from xds_agent.node.datapath.replay import headers_of

    head = headers_of(sample.frame)
    who = str(head) if head is not None else sample.frame[:32].hex(" ")
    way = "  left as " if sample.leaving else ""
    return f"{when}  {fate}  {services.get(sample.service, '?')}  {way}{who}  {sample.length} bytes"


def show_flows(lines: Sequence[Mapping[str, Any]], *, left_out: int, seconds: float) -> None:
    """One interval."""
    console = Console()
    table = Table("from", "to", "", "service", "reason", "packets/s", "Mbit/s")
    for one in lines:
        other = "(others)" if "other_flows" in one else "(unreadable)"
        ends = [_end(one, side) if side in one else other for side in ("source", "destination")]
        rates_of = one["packets"] / seconds, one["bytes"] * 8 / seconds / 1e6
        fate = one["reason"] + (f" ({one['monitored']})" if "monitored" in one else "")
        table.add_row(
            *ends, one.get("protocol", ""), one["service"], fate, f"{rates_of[0]:,.1f}", f"{rates_of[1]:,.3f}"
        )
    console.print(table)
    if left_out:
        console.print(f"{left_out} smaller flows are not shown (--most)")


def _end(flow: Mapping[str, Any], side: str) -> str:
    port = flow[f"{side}_port"]
    if not port:
        return str(flow[side])
    return f"[{flow[side]}]:{port}" if ":" in flow[side] else f"{flow[side]}:{port}"
