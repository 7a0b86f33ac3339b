"""Maintenance: takes a cloud, region, zone or host out for a time, and brings it back by itself."""

from pydantic import AwareDatetime, Field

from xds_agent.model.base import Model, Name, Text


class Maintenance(Model):
    """One window. What it names is drained from `since` to `until`."""

    name: Name | None = Field(
        default=None, description="Name, so that overlays can change it.", examples=["azure-december"]
    )
    cloud: Name | None = Field(default=None, description="Cloud taken out.", examples=["azure"])
    region: Name | None = Field(default=None, description="Region taken out.", examples=["eastus"])
    zone: Name | None = Field(default=None, description="Zone taken out.", examples=["eastus-1"])
    host: Text | None = Field(default=None, description="Host taken out.", examples=["backend-azure1"])
    since: AwareDatetime | None = Field(
        default=None, description="Start, with its time zone. None: now.", examples=["2026-12-01T04:00Z"]
    )
    until: AwareDatetime = Field(description="End, with its time zone.", examples=["2026-12-01T06:00Z"])
    reason: Text = Field(description="Why; goes to the audit.", examples=["CHG-812"])
    allow_outage: tuple[Name, ...] = Field(
        default=(),
        description="Services that may be left without any endpoint; others that would be are refused.",
        examples=[["batch"]],
    )
