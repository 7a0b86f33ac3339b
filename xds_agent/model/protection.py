"""Protection: who may send packets at all, and how many. Acted on by hosts with a datapath."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, Strict

from xds_agent.model.base import Count, Flag, Model, Text
from xds_agent.model.quantities import Duration


class PerSource(Model):
    """Limits for each source address (IPv6: for each /64)."""

    packets_per_second: Count | None = Field(default=None, description="Packets.", examples=[20000])
    syn_per_second: Count | None = Field(default=None, description="New TCP connections.", examples=[500])
    bits_per_second: Annotated[int, Strict(), Field(ge=10_000, le=100_000_000_000)] | None = Field(
        default=None,
        description="Bits of whole frames, a quarter of a second of them (at least 64 KiB) at once.",
        examples=[1_000_000_000],
    )


class FlowLog(Model):
    """Sampled flows of each host with a datapath, as lines of JSON: what the kernel never sees, too."""

    one_in: Annotated[int, Strict(), Field(ge=1, le=1_000_000)] = Field(
        default=1000, description="Packets of which one is looked at.", examples=[1000]
    )
    every: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="How long packets of a flow are summed before its line is written.",
        examples=["10s"],
    )


class Protection(Model):
    """Packet filter in front of everything, on hosts of group `l4` with `xdp_interfaces`.

    Never denied nor limited: ARP and neighbour discovery, the clouds' metadata and health probes, the
    inventory's own hosts and backends. Port 22 and DHCP are never denied, and have limits of their own.
    """

    deny: tuple[Text, ...] = Field(
        default=(), description="Networks whose packets are dropped.", examples=[["203.0.113.0/24"]]
    )
    allow: tuple[Text, ...] = Field(
        default=(),
        description="Networks exempt from `deny` and the limits; of a denied network within one, the longer "
        "prefix counts.",
        examples=[["198.51.100.0/24"]],
    )
    operators: tuple[Text, ...] = Field(
        default=(),
        description="Networks from which people reach the hosts: exempt, and `deny` may not contain them.",
        examples=[["192.0.2.0/28"]],
    )
    deny_anyway: tuple[Text, ...] = Field(
        default=(),
        description="Networks of `deny` that are meant although they contain hosts, backends or operators.",
        examples=[["10.0.0.0/8"]],
    )
    per_source: PerSource | None = Field(
        default=None, description="Limits for each source address.", examples=[{"packets_per_second": 20000}]
    )
    ssh_packets_per_second: Count = Field(
        default=1000, description="Packets of one source to port 22.", examples=[1000]
    )
    syn_cookies_above: Count | None = Field(
        default=None,
        description="Connection requests a second, over all sources, beyond which XDP answers with SYN "
        "cookies for the proxy's listeners (Linux 6.12). None: never.",
        examples=[20000],
    )
    monitor: Flag = Field(
        default=False, description="Count what would be dropped, and let it pass.", examples=[True]
    )
    flow_log: FlowLog | None = Field(
        default=None,
        description="Sampled flows of every host with a datapath, in /var/lib/marchproxy/node/flows.jsonl "
        "there. None: not written.",
        examples=[{"one_in": 1000}],
    )
