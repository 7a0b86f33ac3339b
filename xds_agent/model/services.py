"""Services: what the edge serves, and where it comes from."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr, Strict

from xds_agent.model.base import BY_KEY, Count, DomainName, Model, Name, Port, Text, is_dns_name
from xds_agent.model.endpoints import Endpoint, UpstreamTls
from xds_agent.model.health import Ejection, Health
from xds_agent.model.limits import Bandwidth, QosClass, RateLimit, ServiceLimits
from xds_agent.model.quantities import Duration
from xds_agent.model.steering import Steering
from xds_agent.model.tenants import DEFAULT_TENANT

Protocol = Literal["http", "grpc", "websocket", "tcp", "udp", "icmp"]
HTTP_PROTOCOLS = frozenset({"http", "grpc", "websocket"})
RetryOn = Literal[
    "connect-failure",
    "refused-stream",
    "reset",
    "reset-before-request",
    "gateway-error",
    "5xx",
    "retriable-4xx",
]
DEFAULT_RETRY_ON: tuple[RetryOn, ...] = (
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "gateway-error",
)
Retries = Annotated[int, Strict(), Field(ge=0, le=10)]


class Listen(Model):
    """Where clients reach a service."""

    address: Literal["edge", "vip"] = Field(
        default="edge",
        description="`edge`: every address of the hosts. `vip`: the address that clients' packets carry when "
        "they reach a host of group `l4` (its host variable `vip`; where it has none, its own).",
        examples=["edge"],
    )
    port: Port | None = Field(
        default=None, description="Port clients connect to (all but icmp, which has none).", examples=[7000]
    )
    sni: tuple[DomainName, ...] = Field(
        default=(),
        description="TLS names that choose this service on a shared port (tcp). The TLS is passed "
        "through, not "
        "opened.",
        examples=[["db.example.com"]],
    )
    certificate: Name | None = Field(
        default=None,
        description="Open the clients' TLS with this certificate (tcp, without `sni`). None: bytes pass "
        "as they are.",
        examples=["shop"],
    )


class PacketLimit(Model):
    """Packets a tcp or udp service takes from all sources together, on each host with a datapath."""

    packets_per_second: Count | None = Field(default=None, description="Packets.", examples=[100_000])
    syn_per_second: Count | None = Field(default=None, description="New TCP connections.", examples=[5000])


class Auth(Model):
    """How clients of a service prove who they are."""

    type: Literal["none", "jwt", "token", "mtls"] = Field(
        default="none", description="Kind of proof.", examples=["jwt"]
    )
    issuer: Text | None = Field(
        default=None, description="Issuer of the tokens (jwt).", examples=["https://id.example.com"]
    )
    audiences: tuple[Text, ...] = Field(
        default=(), description="Audiences accepted (jwt).", examples=[["shop"]]
    )
    jwks: str | None = Field(
        default=None,
        description="Public keys of the issuer, as a JWK set (jwt).",
        examples=["{{ lookup('file', 'jwks.json') }}"],
    )
    tokens: Annotated[dict[Name, SecretStr], BY_KEY] = Field(
        default_factory=dict,
        description="Tokens by the name of their holder (token). Keep them as vault values; they are "
        "never shown.",
        examples=[{"partner-a": "{{ vault_partner_a_token }}"}],
    )


def _by_name(endpoint: Endpoint) -> bool:
    return endpoint.address is not None and is_dns_name(endpoint.address)


class Service(Model):
    """Something clients reach through the edge."""

    name: Name = Field(description="Name that routes and mappings refer to.", examples=["shop"])
    tenant: Name = Field(default=DEFAULT_TENANT, description="Whose service it is.", examples=["retail"])
    description: str = Field(default="", description="For people.", examples=["Shop front"])
    protocol: Protocol = Field(default="http", description="What clients speak.", examples=["http", "tcp"])
    domains: tuple[DomainName, ...] = Field(
        default=(),
        description="Domains whose requests come here unless a route says otherwise (http, grpc, websocket).",
        examples=[["shop.example.com"]],
    )
    listen: Listen | None = Field(
        default=None,
        description="Where clients connect. tcp, udp and icmp services need it; the others use the "
        "edge's own ports.",
        examples=[{"address": "edge", "port": 7000}],
    )
    tier: Literal["auto", "l4", "l7"] = Field(
        default="auto",
        description="Who serves a tcp or udp service: XDP (`l4`), Envoy (`l7`), or whichever fits what it "
        "asks for; `xds-agent explain tcp://edge:PORT` says which and why.",
        examples=["l4"],
    )
    forward: Literal["nat", "dsr", "gue"] = Field(
        default="nat",
        description="How XDP hands packets to the backends. `nat` works across routers and in every cloud; "
        "`dsr` only on one link, `gue` over networks of one's own; both keep the client's address and need "
        "the address of the service on the backends.",
        examples=["gue"],
    )
    hash_by: Literal["ports", "addresses"] = Field(
        default="ports",
        description="By what XDP chooses a flow's backend with `gue` and `dsr`. Fragments carry no ports: by "
        "`addresses` they reach the backend of the rest, as datagrams longer than a packet need; all that "
        "one client sends then goes to one backend. A change moves connections.",
        examples=["addresses"],
    )
    when_no_real: Literal["drop", "pass"] = Field(
        default="drop",
        description="What XDP does while no backend is healthy: drop, or pass to the host itself.",
        examples=["pass"],
    )
    packet_limit: PacketLimit | None = Field(
        default=None, description="Packets taken (tcp, udp, icmp).", examples=[{"syn_per_second": 5000}]
    )
    endpoints: tuple[Endpoint, ...] = Field(
        default=(), description="Backends.", examples=[[{"group": "shop_backends", "port": 8080}]]
    )
    upstream_tls: UpstreamTls | None = Field(
        default=None,
        description="TLS from the edge to the backends. None: plain.",
        examples=[{"ca": "site-ca", "sni": "shop.internal"}],
    )
    upstream_http: Literal["1.1", "2"] | None = Field(
        default=None,
        description="HTTP version spoken to the backends. None: 2 for grpc, else 1.1.",
        examples=["2"],
    )
    balance: Literal["least_request", "round_robin", "random"] = Field(
        default="least_request",
        description="Choice among the backends of one place.",
        examples=["round_robin"],
    )
    health: Health | None = Field(
        default=None,
        description="Active check. None: backends count as healthy.",
        examples=[{"type": "http", "path": "/healthz", "interval": "1s"}],
    )
    ejection: Ejection = Field(
        default=Ejection(),
        description="Takes backends out by what requests meet.",
        examples=[{"consecutive_errors": 5}],
    )
    connect_timeout: Duration = Field(
        default=timedelta(seconds=1), description="Time to connect to a backend.", examples=["1s"]
    )
    timeout: Duration = Field(
        default=timedelta(seconds=15),
        description="Time for a whole answer; 0s: no limit. grpc and websocket services have no limit "
        "unless this is given.",
        examples=["15s"],
    )
    idle_timeout: Duration | None = Field(
        default=None,
        description="Longest silence: of a request, a tcp connection, or a udp session.",
        examples=["5m"],
    )
    retries: Retries = Field(default=0, description="Further tries after a failure.", examples=[2])
    retry_on: tuple[RetryOn, ...] = Field(
        default=DEFAULT_RETRY_ON, description="Failures that are tried again.", examples=[["connect-failure"]]
    )
    per_try_timeout: Duration | None = Field(default=None, description="Time for one try.", examples=["1s"])
    limits: ServiceLimits = Field(
        default=ServiceLimits(), description="Circuit breaker.", examples=[{"connections": 1000}]
    )
    steering: Steering = Field(
        default=Steering(), description="Choice among clouds.", examples=[{"order": ["aws", "gcp"]}]
    )
    qos: QosClass = Field(
        default="P2",
        description="Class of service; P0 is served first. Where it is given, hosts with a datapath mark "
        "packets with its DSCP (46, 34, 18, 8), and what the proxy sends goes to its HTB class.",
        examples=["P1"],
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="Requests taken.", examples=[{"requests_per_second": 500, "burst": 1000}]
    )
    bandwidth: Bandwidth | None = Field(
        default=None, description="Bits moved.", examples=[{"egress": "100mbit"}]
    )
    auth: Auth = Field(
        default=Auth(),
        description="How clients prove who they are.",
        examples=[{"type": "jwt", "issuer": "https://id.example.com"}],
    )

    @property
    def qos_is_given(self) -> bool:
        """True when the inventory names a class; only then are packets marked."""
        return "qos" in self.model_fields_set

    @property
    def has_own_port(self) -> bool:
        """True when packets tell by their port that they are the service's."""
        return self.protocol in ("tcp", "udp") and self.listen is not None and not self.listen.sni

    @property
    def is_http(self) -> bool:
        """True for protocols that are routed by domain and path."""
        return self.protocol in HTTP_PROTOCOLS

    @property
    def needs_proxy(self) -> tuple[str, str] | None:
        """(field, why) of what only a proxy in user space can do for it; None when XDP may serve it too."""
        listen = self.listen
        wants = (
            ("listen.sni", "the TLS name has to be read", listen is not None and bool(listen.sni)),
            ("listen.certificate", "TLS has to be opened", listen is not None and listen.certificate),
            ("upstream_tls", "the edge speaks TLS to the backends", self.upstream_tls is not None),
            ("bandwidth", "what XDP sends passes no queue that could shape it", self.bandwidth is not None),
            ("endpoints", "a DNS name has to be resolved", any(_by_name(one) for one in self.endpoints)),
        )
        return next(((field, why) for field, why, wanted in wants if wanted), None)

    @property
    def upstream_http2(self) -> bool:
        """True when backends are spoken to in HTTP/2."""
        return self.upstream_http == "2" or (self.upstream_http is None and self.protocol == "grpc")

    @property
    def request_timeout(self) -> timedelta:
        """`timeout`, or none (zero) for long-lived protocols that do not set one."""
        if self.protocol in ("grpc", "websocket") and "timeout" not in self.model_fields_set:
            return timedelta(0)
        return self.timeout
