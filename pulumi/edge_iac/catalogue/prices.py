"""The price book: list prices in USD, on demand, Linux, without discounts.

Data as of AS_OF, from the providers' public price pages. Prices of instances are those of the reference
region times the factor of a region, which meets the pages within some five per cent; what an edge costs is
 decided by traffic long before that. The bill is the cloud's own; this is for comparing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AS_OF = "2025-09"
HOURS_PER_MONTH = 730

# Reference regions: us-east-1, us-central1, eastus.
INSTANCE_USD_PER_HOUR: Mapping[str, float] = MappingProxyType(
    {
        "c6i.large": 0.085,
        "c6in.xlarge": 0.2268,
        "c6in.4xlarge": 0.9072,
        "c6in.16xlarge": 3.6288,
        "n2-standard-2": 0.0971,
        "n2-standard-4": 0.1942,
        "n2-standard-16": 0.7769,
        "n2-standard-64": 3.1078,
        "Standard_D2s_v5": 0.096,
        "Standard_D4s_v5": 0.192,
        "Standard_D16s_v5": 0.768,
        "Standard_D64s_v5": 3.072,
    }
)
DISK_USD_PER_GB_MONTH: Mapping[str, float] = MappingProxyType({"aws": 0.08, "gcp": 0.10, "azure": 0.075})
ADDRESS_USD_PER_HOUR: Mapping[str, float] = MappingProxyType({"aws": 0.005, "gcp": 0.005, "azure": 0.005})
BALANCER_USD_PER_HOUR: Mapping[str, float] = MappingProxyType({"aws": 0.0225, "gcp": 0.025, "azure": 0.025})
NAT_USD_PER_HOUR: Mapping[str, float] = MappingProxyType({"aws": 0.045, "gcp": 0.0014, "azure": 0.045})
"""AWS: each gateway, one per zone; Azure: one per region; Google Cloud: for each host behind it."""

_FACTORS = """
aws af-south-1 1.33
aws ap-east-1 1.32
aws ap-northeast-1 1.26
aws ap-northeast-2 1.13
aws ap-northeast-3 1.26
aws ap-south-1 1.00
aws ap-southeast-1 1.15
aws ap-southeast-2 1.31
aws ca-central-1 1.09
aws eu-central-1 1.14
aws eu-north-1 1.07
aws eu-south-1 1.19
aws eu-west-1 1.07
aws eu-west-2 1.19
aws eu-west-3 1.19
aws sa-east-1 1.54
aws us-west-1 1.25
gcp asia-east1 1.16
gcp asia-northeast1 1.28
gcp asia-south1 1.20
gcp asia-southeast1 1.23
gcp australia-southeast1 1.42
gcp europe-north1 1.10
gcp europe-west1 1.10
gcp europe-west2 1.29
gcp europe-west3 1.29
gcp europe-west4 1.10
gcp northamerica-northeast1 1.10
gcp southamerica-east1 1.59
gcp us-east4 1.13
gcp us-west2 1.20
azure australiaeast 1.25
azure brazilsouth 1.59
azure canadacentral 1.12
azure centralindia 1.05
azure francecentral 1.17
azure germanywestcentral 1.20
azure japaneast 1.29
azure northeurope 1.11
azure southeastasia 1.25
azure swedencentral 1.06
azure switzerlandnorth 1.32
azure uksouth 1.16
azure westeurope 1.20
azure westus 1.22
"""
_EGRESS = """
aws - 0.09
aws af-south-1 0.154
aws ap-east-1 0.12
aws ap-northeast-1 0.114
aws ap-northeast-2 0.126
aws ap-south-1 0.1093
aws ap-southeast-1 0.12
aws ap-southeast-2 0.114
aws sa-east-1 0.15
gcp - 0.12
gcp australia-southeast1 0.19
azure - 0.087
azure australiaeast 0.12
azure brazilsouth 0.181
azure centralindia 0.12
azure eastasia 0.12
azure japaneast 0.12
azure koreacentral 0.12
azure southeastasia 0.12
"""


def _table(text: str) -> Mapping[tuple[str, str], float]:
    rows = (line.split() for line in text.split("\n") if line)
    return MappingProxyType({(cloud, region): float(value) for cloud, region, value in rows})


_FACTOR_OF = _table(_FACTORS)
_EGRESS_OF = _table(_EGRESS)


def instance_usd_per_hour(cloud: str, region: str, instance_type: str) -> float:
    """What an hour of an instance costs. A region without a factor of its own costs as the reference."""
    return round(INSTANCE_USD_PER_HOUR[instance_type] * _FACTOR_OF.get((cloud, region), 1.0), 4)


def egress_usd_per_gb(cloud: str, region: str) -> float:
    """What a gigabyte out to the internet costs, in the first tier."""
    return _EGRESS_OF.get((cloud, region), _EGRESS_OF[cloud, "-"])
