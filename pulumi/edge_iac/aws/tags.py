"""Tags of what is made in AWS: the site's own, its name, and what the thing is called."""

from __future__ import annotations

from edge_iac.plan import Host, Region
from edge_iac.site.names import cloud_name, groups_value


def named(region: Region, name: str) -> dict[str, str]:
    """Tags of a thing of a region."""
    return {**region.tags, "Name": cloud_name(region.site, name)}


def of_host(region: Region, host: Host) -> dict[str, str]:
    """Tags of a host, from which alone one can tell what it is."""
    return {
        **region.tags,
        "Name": host.cloud_name,
        "edge-host": host.name,
        "edge-role": host.role,
        "edge-groups": groups_value("aws", host.role, host.groups),
    }
