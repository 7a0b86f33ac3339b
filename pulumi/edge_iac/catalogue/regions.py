"""Regions of the clouds with their zones.

Data as of AS_OF, from the providers' public lists ("AWS Regions and Availability Zones", "Regions and zones"
of Google Cloud, "Azure regions with availability zones"). An AWS account may lack a zone that others have:
`zone_names` in the site file then says which to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AS_OF = "2025-09"

_AWS = """
af-south-1 abc
ap-east-1 abc
ap-northeast-1 acd
ap-northeast-2 abcd
ap-northeast-3 abc
ap-south-1 abc
ap-south-2 abc
ap-southeast-1 abc
ap-southeast-2 abc
ap-southeast-3 abc
ap-southeast-4 abc
ca-central-1 a-b-d
ca-west-1 abc
eu-central-1 abc
eu-central-2 abc
eu-north-1 abc
eu-south-1 abc
eu-south-2 abc
eu-west-1 abc
eu-west-2 abc
eu-west-3 abc
il-central-1 abc
me-central-1 abc
me-south-1 abc
sa-east-1 abc
us-east-1 abcdf
us-east-2 abc
us-west-1 ac
us-west-2 abcd
"""
_GCP = """
africa-south1 abc
asia-east1 abc
asia-east2 abc
asia-northeast1 abc
asia-northeast2 abc
asia-northeast3 abc
asia-south1 abc
asia-south2 abc
asia-southeast1 abc
asia-southeast2 abc
australia-southeast1 abc
australia-southeast2 abc
europe-central2 abc
europe-north1 abc
europe-southwest1 abc
europe-west1 bcd
europe-west2 abc
europe-west3 abc
europe-west4 abc
europe-west6 abc
europe-west8 abc
europe-west9 abc
europe-west12 abc
me-central1 abc
me-west1 abc
northamerica-northeast1 abc
northamerica-northeast2 abc
southamerica-east1 abc
southamerica-west1 abc
us-central1 abcf
us-east1 bcd
us-east4 abc
us-east5 abc
us-south1 abc
us-west1 abc
us-west2 abc
us-west3 abc
us-west4 abc
"""
_AZURE = """
australiaeast 123
australiasoutheast -
brazilsouth 123
canadacentral 123
canadaeast -
centralindia 123
centralus 123
eastasia 123
eastus 123
eastus2 123
francecentral 123
germanywestcentral 123
israelcentral 123
italynorth 123
japaneast 123
japanwest 123
koreacentral 123
mexicocentral 123
newzealandnorth 123
northcentralus -
northeurope 123
norwayeast 123
polandcentral 123
qatarcentral 123
southafricanorth 123
southcentralus 123
southeastasia 123
spaincentral 123
swedencentral 123
switzerlandnorth 123
uaenorth 123
uksouth 123
ukwest -
westcentralus -
westeurope 123
westus -
westus2 123
westus3 123
"""


def _table(text: str, *, joined_by: str | None) -> Mapping[str, tuple[str, ...]]:
    """Lines of region and zone letters; ``joined_by``: what stands between them, None: letters alone."""
    regions = {}
    for line in text.split("\n"):
        if line:
            region, letters = line.split()
            before = "" if joined_by is None else region + joined_by
            regions[region] = tuple(before + letter for letter in letters if letter != "-")
    return MappingProxyType(regions)


ZONES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "aws": _table(_AWS, joined_by=""),
        "gcp": _table(_GCP, joined_by="-"),
        "azure": _table(_AZURE, joined_by=None),
    }
)
"""Cloud -> region -> zones by the cloud's own names. A region of Azure without zones has none."""
