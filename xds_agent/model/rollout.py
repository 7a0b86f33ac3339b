"""Rollout: how a change goes to the fleet."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, Strict

from xds_agent.model.base import Model
from xds_agent.model.quantities import Duration, Wave


class Rollout(Model):
    """Waves of a change, and the gate between them."""

    waves: tuple[Wave, ...] = Field(
        default=("100%",),
        min_length=1,
        description="Sizes of the waves: a number of proxies of each role and cloud, or a share of all. "
        "The last is "
        '"100%".',
        examples=[[1, "25%", "100%"]],
    )
    soak: Duration = Field(
        default=timedelta(seconds=3), description="Time a wave must hold before the next.", examples=["3s"]
    )
    tolerate: Annotated[int, Strict(), Field(ge=0)] = Field(
        default=0,
        description="Proxies of later waves that may fail before the change is taken back.",
        examples=[0],
    )
