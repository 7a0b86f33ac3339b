"""Health: active checks, and ejection by what real requests meet."""

import string
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, Strict

from xds_agent.model.base import Count, Hostname, Model, PathText, Port
from xds_agent.model.quantities import Duration

Status = Annotated[int, Strict(), Field(ge=100, le=599)]
RatioPercent = Annotated[int, Strict(), Field(ge=0, le=100)]


def _percent_encoded(path: str) -> str:
    return quote(path, safe=string.punctuation)


AskedPath = Annotated[PathText, AfterValidator(_percent_encoded)]
"""A path as it is written into a request: what is not printable ASCII goes as `%xx`."""


class Health(Model):
    """An active check that every proxy makes against every backend."""

    type: Literal["http", "tcp", "grpc"] = Field(
        default="http", description="What counts as an answer.", examples=["http"]
    )
    path: AskedPath = Field(
        default="/", description="Path asked for (`http`); goes percent-encoded.", examples=["/healthz"]
    )
    host: Hostname | None = Field(
        default=None,
        description="Host header of the check (`http`). None: the service's name.",
        examples=["shop.internal"],
    )
    statuses: tuple[Status, ...] = Field(
        default=(200,), description="Status codes of a healthy backend (`http`).", examples=[[200, 204]]
    )
    grpc_service: str = Field(
        default="",
        description="Service asked about (`grpc`). Empty: the whole server.",
        examples=["shop.Cart"],
    )
    port: Port | None = Field(
        default=None, description="Port of the check, where it is not the endpoint's own.", examples=[9000]
    )
    interval: Duration = Field(
        default=timedelta(seconds=5), description="Time between checks.", examples=["1s"]
    )
    timeout: Duration = Field(default=timedelta(seconds=1), description="Time to answer.", examples=["500ms"])
    unhealthy_after: Count = Field(
        default=2, description="Failed checks in a row that take it out.", examples=[2]
    )
    healthy_after: Count = Field(
        default=2, description="Good checks in a row that bring it back.", examples=[2]
    )


class Ejection(Model):
    """Takes a backend out for a while after real requests to it failed (outlier detection)."""

    consecutive_errors: Count = Field(
        default=3,
        description="Failed requests in a row (gateway errors, resets, refused connections).",
        examples=[3],
    )
    interval: Duration = Field(
        default=timedelta(seconds=1), description="Time between evaluations.", examples=["1s"]
    )
    time: Duration = Field(
        default=timedelta(seconds=5),
        description="Time out, multiplied by how often it happened.",
        examples=["5s"],
    )
    max_percent: RatioPercent = Field(
        default=100,
        description="Largest share of a service's backends out at once; 0 switches it off.",
        examples=[50],
    )
