"""Routes: host and path rules over services."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from xds_agent.model.base import (
    BY_KEY,
    DomainName,
    Flag,
    HeaderName,
    Hostname,
    Model,
    Name,
    PathText,
    Percent,
    Port,
    Text,
)
from xds_agent.model.quantities import Duration
from xds_agent.model.services import Retries, RetryOn

Share = Annotated[int, Strict(), Field(ge=0, le=100)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


class HeaderMatch(Model):
    """A condition on one header. Without `exact`, `prefix` and `regex`: the header is present."""

    name: HeaderName = Field(description="Header.", examples=["x-beta"])
    exact: str | None = Field(default=None, description="Its whole value.", examples=["yes"])
    prefix: Text | None = Field(default=None, description="How its value begins.", examples=["v2"])
    regex: Text | None = Field(
        default=None, description="RE2 expression for the whole value.", examples=["v[0-9]+"]
    )
    negate: Flag = Field(default=False, description="True: the condition must not hold.", examples=[False])


class Rewrite(Model):
    """What the backend sees instead of what the client asked for."""

    prefix: PathText | None = Field(
        default=None, description="Replaces the matched `prefix` (or the whole `exact` path).", examples=["/"]
    )
    regex: Text | None = Field(
        default=None, description="RE2 expression within the path.", examples=["^/v1/(.*)$"]
    )
    substitution: str | None = Field(
        default=None,
        description="Replaces what `regex` matched; `\\1` is its first group.",
        examples=["/\\1"],
    )
    host: Hostname | None = Field(default=None, description="Host header.", examples=["shop.internal"])


class Redirect(Model):
    """An answer that sends the client elsewhere."""

    scheme: Literal["http", "https"] | None = Field(
        default=None, description="New scheme.", examples=["https"]
    )
    host: Hostname | None = Field(default=None, description="New host.", examples=["www.example.com"])
    port: Port | None = Field(default=None, description="New port.", examples=[8443])
    path: PathText | None = Field(default=None, description="New path.", examples=["/new"])
    prefix: PathText | None = Field(
        default=None, description="Replaces the matched prefix.", examples=["/shop"]
    )
    status: Literal[301, 302, 303, 307, 308] = Field(default=301, description="Status code.", examples=[308])
    strip_query: Flag = Field(default=False, description="Drop the query.", examples=[False])


class Respond(Model):
    """A fixed answer of the edge itself."""

    status: Annotated[int, Strict(), Field(ge=200, le=599)] = Field(
        description="Status code.", examples=[404]
    )
    body: Annotated[str, Field(max_length=4096)] = Field(
        default="", description="Body.", examples=["not here"]
    )


class Mirror(Model):
    """Copies of requests to a second service, whose answers are thrown away."""

    service: Name = Field(description="Service that gets the copies.", examples=["shop-next"])
    percent: Percent = Field(default=100, description="Share of requests that is copied.", examples=[5])


class Cors(Model):
    """What browsers of other origins may do."""

    origins: tuple[Text, ...] = Field(
        min_length=1,
        description='Origins, exactly as browsers send them; "*" for all.',
        examples=[["https://www.example.com"]],
    )
    methods: tuple[Method, ...] = Field(
        default=("GET", "HEAD", "POST"), description="Methods.", examples=[["GET", "POST"]]
    )
    headers: tuple[HeaderName, ...] = Field(
        default=(), description="Request headers.", examples=[["content-type"]]
    )
    expose: tuple[HeaderName, ...] = Field(
        default=(), description="Response headers scripts may read.", examples=[["etag"]]
    )
    max_age: Duration | None = Field(default=None, description="How long browsers remember.", examples=["1h"])
    credentials: Flag = Field(default=False, description="Allow cookies.", examples=[True])


class HeaderEdit(Model):
    """Changes to headers on their way through."""

    set: Annotated[dict[HeaderName, str], BY_KEY] = Field(
        default_factory=dict, description="Set, replacing what is there.", examples=[{"x-edge": "1"}]
    )
    add: Annotated[dict[HeaderName, str], BY_KEY] = Field(
        default_factory=dict, description="Add beside what is there.", examples=[{"via": "edge"}]
    )
    remove: tuple[HeaderName, ...] = Field(default=(), description="Remove.", examples=[["server"]])


class Route(Model):
    """A rule: which requests of which domains, and what becomes of them.

    Exactly one of `prefix`, `exact` and `regex`; exactly one of `service`, `split`, `redirect` and `respond`.
    Rules are tried by `priority` (highest first), then exact before regex before prefix, long before short,
    and rules with more conditions first; never by their place in a file.
    """

    name: Name | None = Field(
        default=None, description="Name, so that overlays can change it.", examples=["shop-api"]
    )
    domains: tuple[DomainName, ...] = Field(
        min_length=1, description="Domains it holds for.", examples=[["shop.example.com"]]
    )
    prefix: PathText | None = Field(
        default=None,
        description="Paths that begin so, at a slash: `/api` takes `/api/x` but not `/apix`.",
        examples=["/api"],
    )
    exact: PathText | None = Field(default=None, description="One path.", examples=["/robots.txt"])
    regex: Text | None = Field(
        default=None, description="RE2 expression for the whole path.", examples=["/v[0-9]+/items"]
    )
    methods: tuple[Method, ...] = Field(default=(), description="Methods. Empty: all.", examples=[["GET"]])
    headers: tuple[HeaderMatch, ...] = Field(
        default=(),
        description="Conditions on headers; all must hold.",
        examples=[[{"name": "x-beta", "exact": "yes"}]],
    )
    priority: Annotated[int, Strict()] = Field(
        default=0, description="Highest is tried first.", examples=[10]
    )
    service: Name | None = Field(default=None, description="Service the requests go to.", examples=["shop"])
    split: Annotated[dict[Name, Share], BY_KEY] | None = Field(
        default=None,
        min_length=1,
        description="Services and the percent of requests each gets; together 100.",
        examples=[{"shop": 95, "shop-v2": 5}],
    )
    redirect: Redirect | None = Field(
        default=None, description="Send the client elsewhere.", examples=[{"host": "www.example.com"}]
    )
    respond: Respond | None = Field(
        default=None, description="Answer at the edge.", examples=[{"status": 404}]
    )
    rewrite: Rewrite | None = Field(
        default=None, description="What the backend sees.", examples=[{"prefix": "/"}]
    )
    mirror: Mirror | None = Field(
        default=None, description="Copies.", examples=[{"service": "shop-next", "percent": 5}]
    )
    cors: Cors | None = Field(
        default=None, description="CORS.", examples=[{"origins": ["https://www.example.com"]}]
    )
    timeout: Duration | None = Field(
        default=None, description="As of the service, for this rule.", examples=["3s"]
    )
    idle_timeout: Duration | None = Field(
        default=None, description="As of the service, for this rule.", examples=["30s"]
    )
    retries: Retries | None = Field(
        default=None, description="As of the service, for this rule.", examples=[2]
    )
    retry_on: tuple[RetryOn, ...] | None = Field(
        default=None, description="As of the service, for this rule.", examples=[["5xx"]]
    )
    per_try_timeout: Duration | None = Field(
        default=None, description="As of the service, for this rule.", examples=["1s"]
    )
    client_certificate: Literal["required"] | None = Field(
        default=None,
        description="Require a client certificate on this path of a domain with `client_auth: optional`.",
        examples=["required"],
    )
    request_headers: HeaderEdit | None = Field(
        default=None, description="Changes on the way in.", examples=[{"set": {"x-edge": "1"}}]
    )
    response_headers: HeaderEdit | None = Field(
        default=None, description="Changes on the way out.", examples=[{"remove": ["server"]}]
    )

    @property
    def destinations(self) -> tuple[tuple[str, int], ...]:
        """(service, percent) pairs, sorted by name; empty for redirects and fixed answers."""
        if self.service is not None:
            return ((self.service, 100),)
        return tuple(sorted((self.split or {}).items()))
