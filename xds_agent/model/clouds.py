"""Clouds: prices and places, which steering by cost or geography works from."""

from typing import Annotated

from pydantic import Field

from xds_agent.model.base import BY_KEY, Model, Name

Usd = Annotated[float, Field(ge=0)]


class Region(Model):
    """A region of a cloud."""

    egress_usd_per_gb: Usd | None = Field(
        default=None, description="Price of a gigabyte out.", examples=[0.09]
    )
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = Field(
        default=None, description="Degrees north.", examples=[38.9]
    )
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = Field(
        default=None, description="Degrees east.", examples=[-77.4]
    )


class Cloud(Model):
    """A cloud, or a data centre of one's own."""

    egress_usd_per_gb: Usd | None = Field(
        default=None,
        description="Price of a gigabyte out, where the region has none of its own.",
        examples=[0.09],
    )
    regions: Annotated[dict[Name, Region], BY_KEY] = Field(
        default_factory=dict,
        description="Its regions.",
        examples=[{"us-east-1": {"egress_usd_per_gb": 0.09}}],
    )
