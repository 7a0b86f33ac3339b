"""The places of a site: what every check walks through."""

from collections.abc import Callable, Iterator

from edge_iac.site.model import CloudName, RegionSite, Site

Add = Callable[[str, str, str], None]
"""Takes (path, what is wrong, the fix)."""


def regions_of(site: Site) -> Iterator[tuple[CloudName, str, RegionSite, str]]:
    """(cloud, region, what is said of it, its path) for every region of the site, by name in each cloud.

    The order in the file means nothing to what is made of them; where it does, see `in_the_file`.
    """
    for cloud, said in site.clouds.named().items():
        for region, one in sorted(said.regions.items()):
            yield cloud, region, one, f"clouds.{cloud}.regions.{region}"


def in_the_file(site: Site) -> tuple[tuple[CloudName, str], ...]:
    """(cloud, region) as they stand in the file: ports of tunnels are counted so."""
    said = site.clouds.named()
    return tuple((cloud, region) for cloud in site.clouds.in_the_file() for region in said[cloud].regions)
