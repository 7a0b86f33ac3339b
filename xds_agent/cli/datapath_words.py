"""Tables of the datapath for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xds_agent.cli import output
from xds_agent.model.ports import ENVOY_HTTP

if TYPE_CHECKING:
    from xds_agent.datapath.sampling import Sample
    from xds_agent.node.datapath.replay import Replayed

_UDP = 17
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
    if log_problem := state.get("flow_log", {}).get("problem"):
        console.print(f"[yellow]{escape(log_problem)}[/]", soft_wrap=True)
    if state.get("missing"):
        console.print(f"[yellow]not here: {state['missing']}[/]", soft_wrap=True)
    console.print(f"revision {state['revision'] or 'none'}, {state['mode']} XDP on {where or 'no interface'}")
    for name, words in state.get("preflight", {}).items():
        console.print(f"preflight of {name}: {words}", soft_wrap=True)
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


@dataclass(frozen=True, slots=True)
class Look:
    """What is read of a host at one time. `proxied`: service that XDP leaves to Envoy -> its tier there.
    `envoy`: counters of Envoy, empty where it does not answer. `counted_s`, `answered_s`: when the counters
    were read and when Envoy answered, by any one clock."""

    counts: Counts
    proxied: Mapping[str, str]
    envoy: Mapping[str, int]
    counted_s: float
    answered_s: float


# What Envoy counts, by the tier whose work it is: it sees streams and datagrams, and no packets of TCP.
ENVOY_RATES = {
    "envoy http": (r"^http\.(http|https|grpc)\.", {"downstream_rq_total": "requests_per_second",
                                                 "downstream_cx_rx_bytes_total": "bytes_per_second"}),
    "envoy tcp_proxy": (r"^tcp\.", {"downstream_cx_total": "connections_per_second",
                                    "downstream_cx_rx_bytes_total": "bytes_per_second"}),
    "envoy udp_proxy": (r"^udp\.", {"downstream_sess_rx_datagrams": "datagrams_per_second",
                                    "downstream_sess_rx_bytes": "bytes_per_second"}),
}  # fmt: skip
ENVOY_PATTERN = (
    r"^(http\.(http|https|grpc)\.downstream_(rq_total|cx_rx_bytes_total)"
    r"|tcp\..*\.downstream_cx_(total|rx_bytes_total)|udp\..*\.downstream_sess_rx_(datagrams|bytes))$"
)
TIERS = (
    "xdp dropped", "xdp balanced", "xdp answered", "tc", "envoy http", "envoy tcp_proxy", "envoy udp_proxy",
    "host and envoy's other ports",
)  # fmt: skip
HTTP = "envoy http"
_BALANCED = frozenset({"send_nat", "send_gue", "send_dsr", "send_answer"})


def rates(before: Look, after: Look) -> dict[str, Any]:
    """Packets a second by service and reason, and by tier; reasons with none are left out. Each packet that
    came is one tier's; `tc` has those that the kernel sent in the name of a service of the inventory."""
    seconds, envoys = after.counted_s - before.counted_s, after.answered_s - before.answered_s
    found: dict[str, dict[str, float]] = {}
    tiers = dict.fromkeys(TIERS, 0.0)
    for name, reasons in after.counts.items():
        for reason, one in reasons.items():
            was = before.counts.get(name, {}).get(reason, {}).get("packets", 0)
            rate = max(0, one["packets"] - was) / seconds
            if rate:
                found.setdefault(name, {})[reason] = round(rate, 1)
            tier = tier_of_packet(reason, after.proxied.get(name))
            if tier is not None:
                tiers[tier] += rate
    total = sum(tiers.values())
    shares = {tier: round(100 * rate / total, 1) if total else 0.0 for tier, rate in tiers.items()}
    packets = {tier: round(rate, 1) for tier, rate in tiers.items()}
    return {
        "packets_per_second": found, "tiers": packets, "share_percent": shares,
        "envoy": _envoy_rates(before.envoy, after.envoy, envoys),
    }  # fmt: skip


def tier_of_packet(reason: str, proxied: str | None) -> str | None:
    """Whose work a packet of this fate was; None for what is counted beside its fate."""
    if reason == "note_egress":
        # Answers over HTTP pass tc, which gives them no class of their own.
        return None if proxied == HTTP else "tc"
    if reason.startswith("note_"):
        return None
    if reason.startswith("drop_"):
        return "xdp dropped"
    if reason.startswith("send_"):
        return "xdp balanced" if reason in _BALANCED else "xdp answered"
    return proxied or "host and envoy's other ports"


def proxied_of(state: Mapping[str, Any]) -> dict[str, str]:
    """What XDP counts and leaves to Envoy: services on ports of their own, and Envoy's HTTP listeners."""
    return {
        one["name"]: _tier_of_envoy(one["name"], one["fronts"][0]["protocol"])
        for one in state["services"]
        if one["forward"] == "kernel" and one["fronts"]
    }


def _tier_of_envoy(name: str, protocol: int) -> str:
    if name in ENVOY_HTTP:
        return HTTP
    return "envoy udp_proxy" if protocol == _UDP else "envoy tcp_proxy"


def _envoy_rates(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> dict[str, Any]:
    found: dict[str, dict[str, float]] = {}
    for tier, (pattern, fields) in ENVOY_RATES.items() if before and after else ():
        begins = re.compile(pattern)
        for name, value in after.items():
            field = fields.get(name.rpartition(".")[2])
            if field is not None and begins.match(name):
                rate = max(0, value - before.get(name, 0)) / seconds
                of_tier = found.setdefault(tier, dict.fromkeys(fields.values(), 0.0))
                of_tier[field] = round(of_tier[field] + rate, 1)
    return found


def show_top(found: Mapping[str, Any]) -> None:
    """One look."""
    console = Console()
    table = Table("service", "reason", "packets/s")
    for name, reasons in found["packets_per_second"].items():
        for reason, rate in sorted(reasons.items(), key=lambda one: -one[1]):
            table.add_row(name, reason, f"{rate:,.0f}")
    console.print(table)
    tiers = Table("tier", "share", "packets/s", "Envoy says")
    for tier in dict.fromkeys((*found["share_percent"], *found["envoy"])):
        share, packets = found["share_percent"].get(tier), found["tiers"].get(tier)
        known = ("", "") if share is None else (f"{share:g} %", f"{packets:,.0f}")
        said = found["envoy"].get(tier, {}).items()
        by_envoy = ", ".join(f"{rate:,.0f} {field.removesuffix('_per_second')}/s" for field, rate in said)
        tiers.add_row(tier, *known, by_envoy)
    console.print(tiers)


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
