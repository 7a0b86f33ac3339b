"""What outlives its host, and which hosts take up what is given at the first boot: checks of a region."""

import re
from collections.abc import Iterator

from edge_iac.catalogue.regions import ZONES
from edge_iac.site.model import RegionSite
from edge_iac.site.names import host_name
from edge_iac.site.places import Add

OUTER = frozenset({"ingress", "egress"})
"""Roles whose hosts have a public address."""


def check_lasting(cloud: str, region: str, one: RegionSite, path: str, add: Add) -> None:
    """Calls ``add`` for names under `addresses` and `renew` that mean nothing there."""
    # Of zones that the site file has left, too: their addresses are still there to be kept or released.
    zones = max(1, len(ZONES[cloud].get(region, ())))
    vip = rf"vip-{region}-[1-{zones}]" if cloud == "aws" else rf"vip-{region}"
    known = rf"{vip}|[a-z][a-z0-9-]*-{cloud}-{region}-[1-9]\d*"
    inner = {f"{pool}-{cloud}-{region}" for pool, what in one.hosts.items() if what.role not in OUTER}
    for name in one.addresses:
        if name.rpartition("-")[0] in inner:
            fix = "leave it out: only ingress and egress hosts have public addresses"
            add(f"{path}.addresses.{name}", f"'{name}' has no public address", fix)
        elif not re.fullmatch(known, name):
            example_vip = f"vip-{region}-1" if cloud == "aws" else f"vip-{region}"
            example = host_name(pool="edge", cloud=cloud, region=region, number=2)
            add(
                f"{path}.addresses.{name}",
                f"{region} has no address '{name}'",
                f"write the name of a host that has gone, such as {example}, or {example_vip}",
            )
    hosts = set(_hosts(cloud, region, one))
    for index, name in enumerate(one.renew):
        if name not in hosts:
            fix = f"there are: {', '.join(sorted(hosts)) or 'none'}"
            add(f"{path}.renew[{index}]", f"{region} has no host '{name}'", fix)


def _hosts(cloud: str, region: str, one: RegionSite) -> Iterator[str]:
    for pool, what in one.hosts.items():
        for number in range(1, what.count + 1):
            yield host_name(pool=pool, cloud=cloud, region=region, number=number)
