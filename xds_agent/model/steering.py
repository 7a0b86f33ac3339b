"""Steering: which cloud a request goes to, and when another takes over."""

from typing import Annotated, Literal

from pydantic import Field

from xds_agent.model.base import BY_KEY, Model, Name, Weight


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
        description="Clouds, first choice first. Clouds not named come after all of these.",
        examples=[["aws", "gcp"]],
    )
    weights: Annotated[dict[Name, Weight], BY_KEY] = Field(
        default_factory=dict,
        description="Share of each cloud (`weighted`, active-active). Not named: 1.",
        examples=[{"aws": 3, "gcp": 1}],
    )

    @property
    def active_passive(self) -> bool:
        """True when clouds stand in for each other instead of sharing."""
        return self.mode == "active-passive" or (self.mode is None and bool(self.order))
