"""Protection: who may send packets at all, and how many."""

from pydantic import Field

from xds_agent.model.base import Count, Model, Text


class PerSource(Model):
    """Limits for each source address."""

    packets_per_second: Count | None = Field(default=None, description="Packets.", examples=[20000])
    syn_per_second: Count | None = Field(default=None, description="New TCP connections.", examples=[500])
    bits_per_second: Count | None = Field(default=None, description="Bits.", examples=[1_000_000_000])


class Protection(Model):
    """Packet filter in front of everything."""

    deny: tuple[Text, ...] = Field(
        default=(), description="Networks whose packets are dropped.", examples=[["203.0.113.0/24"]]
    )
    allow: tuple[Text, ...] = Field(
        default=(), description="Networks exempt from `deny` and the limits.", examples=[["198.51.100.0/24"]]
    )
    per_source: PerSource | None = Field(
        default=None, description="Limits for each source address.", examples=[{"packets_per_second": 20000}]
    )
