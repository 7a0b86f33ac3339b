"""Sizes of hosts: an abstract size becomes an instance type, with the contract of its NIC.

The contract is what the packet filter may count on: driver, queues, MTU, and whether XDP runs in the driver
(native) or in the generic hook. From the providers' documentation and the drivers in Linux, AS_OF; hosts are
compared with it when they are provisioned, so that what is wrong here is found and not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from edge_iac.catalogue.images import KERNEL

AS_OF = "2025-09"

Xdp = Literal["native", "generic"]

ENA_XDP_MTU = 3498
"""ENA runs XDP in the driver only up to this MTU, and on half of its channels. AWS hands out 9001."""
GCP_MTU = 1460
AZURE_MTU = 1500
GVE_XDP_KERNEL: tuple[int, int] = (6, 4)
"""First Linux whose gve driver runs XDP."""


@dataclass(frozen=True, slots=True)
class Nic:
    """What the main interface of a host promises."""

    driver: str
    queues: int
    mtu: int
    xdp: Xdp
    condition: str
    """What native XDP depends on, in words."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type of a cloud, as far as an edge cares."""

    name: str
    vcpus: int
    memory_gb: int
    nic: Nic


def _ena(queues: int) -> Nic:
    condition = f"MTU at most {ENA_XDP_MTU}, half of the channels free for XDP"
    return Nic(driver="ena", queues=queues, mtu=ENA_XDP_MTU, xdp="native", condition=condition)


def _gve(queues: int) -> Nic:
    native = KERNEL >= GVE_XDP_KERNEL
    condition = f"Linux {GVE_XDP_KERNEL[0]}.{GVE_XDP_KERNEL[1]} or later, half of the queues free for XDP"
    return Nic(
        driver="gve", queues=queues, mtu=GCP_MTU, xdp="native" if native else "generic", condition=condition
    )


def _netvsc(queues: int) -> Nic:
    condition = "attached to the synthetic interface, never to the VF below it"
    return Nic(driver="hv_netvsc", queues=queues, mtu=AZURE_MTU, xdp="native", condition=condition)


def _types(*rows: InstanceType) -> Mapping[str, InstanceType]:
    return MappingProxyType(dict(zip(SIZES, rows, strict=True)))


SIZES = ("small", "medium", "large", "xlarge")

TYPES: Mapping[str, Mapping[str, InstanceType]] = MappingProxyType(
    {
        "aws": _types(
            InstanceType("c6i.large", 2, 4, _ena(2)),
            InstanceType("c6in.xlarge", 4, 8, _ena(4)),
            InstanceType("c6in.4xlarge", 16, 32, _ena(16)),
            InstanceType("c6in.16xlarge", 64, 128, _ena(32)),
        ),
        "gcp": _types(
            InstanceType("n2-standard-2", 2, 8, _gve(1)),
            InstanceType("n2-standard-4", 4, 16, _gve(2)),
            InstanceType("n2-standard-16", 16, 64, _gve(8)),
            InstanceType("n2-standard-64", 64, 256, _gve(16)),
        ),
        "azure": _types(
            InstanceType("Standard_D2s_v5", 2, 8, _netvsc(2)),
            InstanceType("Standard_D4s_v5", 4, 16, _netvsc(4)),
            InstanceType("Standard_D16s_v5", 16, 64, _netvsc(8)),
            InstanceType("Standard_D64s_v5", 64, 256, _netvsc(8)),
        ),
    }
)
"""Cloud -> size -> instance type. All carry accelerated networking (Azure), gVNIC (Google), ENA (AWS)."""


def size_of(cloud: str, type_name: str) -> str | None:
    """The size that an instance type is; None for a type that is none of the catalogue's."""
    return next((size for size, one in TYPES[cloud].items() if one.name == type_name), None)


# Cloud, family, regions that lack it: there the size does not exist.
_NOT_THERE = """
aws c6in af-south-1 ap-east-1 ap-northeast-3 ap-south-2 ap-southeast-3 ap-southeast-4 ca-west-1
aws c6in eu-central-2 eu-south-1 eu-south-2 il-central-1 me-central-1 me-south-1
gcp n2 europe-west12
azure Standard_D64s mexicocentral newzealandnorth
"""


def _lacking(cloud: str, region: str) -> set[str]:
    rows = (line.split() for line in _NOT_THERE.split("\n") if line)
    return {family for where, family, *regions in rows if where == cloud and region in regions}


def offered(cloud: str, region: str) -> dict[str, InstanceType]:
    """Sizes that the region has, smallest first."""
    lacking = _lacking(cloud, region)
    return {
        size: one
        for size, one in TYPES[cloud].items()
        if not any(one.name.startswith((f"{family}.", f"{family}-", f"{family}_")) for family in lacking)
    }
