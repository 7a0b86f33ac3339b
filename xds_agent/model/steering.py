"""Steering: which cloud a request goes to, and when another takes over."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from xds_agent.model.base import BY_KEY, Count, Model, Name, Percent, Weight
from xds_agent.model.quantities import Duration


class Failback(Model):
    """How a cloud that was down gets its traffic back."""

    after: Duration = Field(
        default=timedelta(minutes=1),
        description="How long it must have been well without a relapse before it gets anything.",
        examples=["1m"],
    )
    ramp: Duration = Field(
        default=timedelta(minutes=1),
        description="How long its share takes from nothing to all that is meant for it.",
        examples=["1m"],
    )


class Steering(Model):
    """Choice among a service's clouds."""

    algorithm: Literal["latency", "cost", "geo", "weighted"] = Field(
        default="weighted", description="What decides among the clouds in use.", examples=["weighted"]
    )
    mode: Literal["active-active", "active-passive"] | None = Field(
        default=None,
        description="`active-passive`: the first healthy cloud of `order` takes everything. "
        "`active-active`: all "
        "share. None: passive when there is an `order`.",
        examples=["active-passive"],
    )
    order: tuple[Name, ...] = Field(
        default=(),
        description="Clouds allowed, first choice first: no other gets anything. Among equals it "
        "decides. Empty: all clouds are allowed.",
        examples=[["aws", "gcp"]],
    )
    weights: Annotated[dict[Name, Weight], BY_KEY] = Field(
        default_factory=dict,
        description="Share of each cloud (`weighted`, active-active). Not named: 1.",
        examples=[{"aws": 3, "gcp": 1}],
    )
    latency_budget: Duration | None = Field(
        default=None,
        description="`cost` takes only what is at most this much farther away than the nearest.",
        examples=["30ms"],
    )
    switch_threshold: Percent = Field(
        default=20,
        description="Percent by which another choice must be better to move anything (`latency`, `cost`).",
        examples=[20],
    )
    hold: Duration = Field(
        default=timedelta(seconds=30),
        description="How long it must have been better.",
        examples=["30s"],
    )
    max_shift: Percent = Field(
        default=25, description="Percent of all requests that one step moves at most.", examples=[25]
    )
    min_healthy: Percent = Field(
        default=50,
        description="Percent of a region's endpoints that must be well; with fewer it counts as down.",
        examples=[50],
    )
    failback: Failback = Field(
        default=Failback(), description="How traffic returns.", examples=[{"after": "1m", "ramp": "5m"}]
    )
    when_all_down: Literal["fail", "spread"] = Field(
        default="spread",
        description="When every endpoint counts as down. `fail`: requests are answered 503 (no healthy "
        "upstream) at once. `spread`: they go to all endpoints all the same, in case the checks are wrong.",
        examples=["fail"],
    )
    capacity: Annotated[dict[Name, Count], BY_KEY] = Field(
        default_factory=dict,
        description="Requests a second each cloud can take; what is beyond goes to the next one.",
        examples=[{"aws": 5000}],
    )

    @property
    def active_passive(self) -> bool:
        """True when clouds stand in for each other instead of sharing."""
        return self.mode == "active-passive" or (self.mode is None and bool(self.order))
