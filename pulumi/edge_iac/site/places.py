"""The places of a site: what every check walks through."""

from collections.abc import Callable, Iterator

from edge_iac.site.model import CloudName, RegionSite, Site

Add = Callable[[str, str, str], None]
"""Takes (path, what is wrong, the fix)."""


def regions_of(site: Site) -> Iterator[tuple[CloudName, str, RegionSite, str]]:
    """(cloud, region, what is said of it, its path) for every region of the site."""
    for cloud, said in site.clouds.named().items():
        for region, one in said.regions.items():
            yield cloud, region, one, f"clouds.{cloud}.regions.{region}"
