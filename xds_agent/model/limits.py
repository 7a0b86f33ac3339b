"""How much: classes of service, rate limits, bandwidth, connection limits, and the proxy's own ceilings."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from xds_agent.model.base import Count, Model
from xds_agent.model.quantities import BitRate, Duration, Size

QosClass = Literal["P0", "P1", "P2", "P3"]
QOS_CLASSES: tuple[QosClass, ...] = ("P0", "P1", "P2", "P3")
DSCPS = (46, 34, 18, 8)
"""What P0 to P3 are called on the way: EF, AF41, AF21, CS1."""


class RateLimit(Model):
    """Requests a service takes, on each proxy."""

    requests_per_second: Count = Field(
        description="Sustained rate on each proxy; more are answered 429.", examples=[500]
    )
    burst: Count | None = Field(
        default=None,
        description="Requests taken at once after a quiet time. None: one second's worth.",
        examples=[1000],
    )


class Bandwidth(Model):
    """Bits a service on a port of its own may move, on each proxy that has a datapath."""

    ingress: BitRate | None = Field(
        default=None,
        description="From clients; more is dropped by XDP, which costs TCP more than its share.",
        examples=["200mbit"],
    )
    egress: BitRate | None = Field(
        default=None, description="To clients; more waits in a queue of its own (HTB).", examples=["100mbit"]
    )


class ServiceLimits(Model):
    """What one proxy has open towards a service's backends at most (circuit breaker)."""

    connections: Count = Field(
        default=4096, description="Connections to each locality's backends.", examples=[4096]
    )
    pending_requests: Count = Field(
        default=1024, description="Requests waiting for a connection.", examples=[1024]
    )
    requests: Count = Field(default=4096, description="Requests in flight.", examples=[4096])
    retries: Count = Field(default=16, description="Retries in flight.", examples=[16])


class ProxyLimits(Model):
    """Ceilings of each proxy, so that no client can exhaust it."""

    connections: Count = Field(
        default=50_000, description="Client connections of one proxy; more are refused.", examples=[50_000]
    )
    heap: Size | None = Field(
        default=None,
        description="Memory of one proxy, above which it sheds load. None: sized from the host's memory.",
        examples=["2GiB"],
    )
    buffer: Size = Field(default=32 * 1024, description="Buffer of one connection.", examples=["32KiB"])
    request_headers: Size = Field(
        default=32 * 1024, description="All headers of a request.", examples=["32KiB"]
    )
    request_header_count: Count = Field(
        default=64, description="Number of headers of a request.", examples=[64]
    )
    concurrent_streams: Count = Field(
        default=100, description="Requests at once on one HTTP/2 connection.", examples=[100]
    )
    handshake_timeout: Duration = Field(
        default=timedelta(seconds=3), description="Time to finish the TLS handshake.", examples=["3s"]
    )
    headers_timeout: Duration = Field(
        default=timedelta(seconds=5), description="Time to send all headers of a request.", examples=["5s"]
    )
    request_timeout: Duration = Field(
        default=timedelta(seconds=15),
        description="Time to send a whole request, body included; 0s: no limit.",
        examples=["15s"],
    )
    stream_idle_timeout: Duration = Field(
        default=timedelta(minutes=5), description="Longest silence within one request.", examples=["5m"]
    )
    connection_idle_timeout: Duration = Field(
        default=timedelta(seconds=60),
        description="Longest time without a request on a connection.",
        examples=["60s"],
    )
    probes_per_second: Count = Field(
        default=200,
        description="Probes one proxy makes for steering and its L4 tier; an inventory that needs more is "
        "refused.",
        examples=[200],
    )
    connection_duration: Duration = Field(
        default=timedelta(minutes=15),
        description="Longest life of a connection, after which it is drained: a revoked client is cut "
        "off; 0s: no limit.",
        examples=["15m"],
    )
