"""Where a region's things lie in Azure: a resource group for what comes and goes, one for what is kept."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_azure_native as azure
from pulumi_azure_native import resources

import pulumi
from edge_iac.catalogue.regions import ZONES
from edge_iac.component import Part
from edge_iac.plan import Region
from edge_iac.site.names import cloud_name


@dataclass(frozen=True)
class Place:
    """A region of Azure as its components see it."""

    region: Region
    provider: azure.Provider
    group: pulumi.Output[str]
    """Name of the resource group."""
    group_id: pulumi.Output[str]
    kept_group: pulumi.Output[str]
    """Name of the group that outlives the stack: who deletes a group deletes all that lies in it."""

    def name(self, rest: str) -> str:
        """Name of a thing in this region."""
        return cloud_name(self.region.site, rest)

    @property
    def zones(self) -> list[str] | None:
        """Those of an address: all of the region, however many the site has; None where the region has none.

        The loss of one zone does not take it along, and a host that moves to another keeps it. Of some zones
        Azure makes all, and it changes none in an address that is there.
        """
        return list(ZONES["azure"][self.region.name]) or None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of what costs money."""
        return dict(self.region.tags)


class PlacePart(Part):
    """The two resource groups of a region."""

    cloud, kind = "azure", "Place"

    def __init__(self, region: Region, provider: azure.Provider) -> None:
        super().__init__(region.name, provider)
        group = resources.ResourceGroup(
            region.name,
            resource_group_name=cloud_name(region.site, region.name),
            location=region.name,
            tags=dict(region.tags),
            opts=self.child(),
        )
        kept = resources.ResourceGroup(
            f"{region.name}-kept",
            resource_group_name=cloud_name(region.site, f"{region.name}-kept"),
            location=region.name,
            tags=dict(region.tags),
            opts=self.kept(keeps=not region.leaving),
        )
        self.made = Place(
            region=region,
            provider=provider,
            group=group.name,
            group_id=group.id,
            kept_group=kept.name,
        )
        self.register_outputs({})
