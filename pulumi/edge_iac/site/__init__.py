"""What a site file says: typed, checked, every mistake at once with its line and the fix."""

from edge_iac.site.load import load_site, parse_site, site_path
from edge_iac.site.model import (
    AwsSite,
    AzureSite,
    CloudName,
    GcpSite,
    Pool,
    Reach,
    RegionSite,
    Role,
    Site,
    Size,
)

__all__ = [
    "AwsSite",
    "AzureSite",
    "CloudName",
    "GcpSite",
    "Pool",
    "Reach",
    "RegionSite",
    "Role",
    "Site",
    "Size",
    "load_site",
    "parse_site",
    "site_path",
]
