"""What of AWS the simulation knows: regions, zones, images, instance types, quotas."""

from __future__ import annotations

import os

# Whose the simulated credentials are.
ACCOUNT = os.environ.get("SIMCLOUD_AWS_ACCOUNT") or "000000000000"
PUBLIC = "198.18.0.0/17"
ZONES = {
    "us-east-1": "abcdef", "us-east-2": "abc", "us-west-2": "abcd", "eu-central-1": "abc", "eu-west-1": "abc",
    "eu-north-1": "abc", "ap-southeast-1": "abc", "ap-northeast-1": "acd", "sa-east-1": "abc",
}  # fmt: skip
REGIONS = frozenset(ZONES)
# Debian's account on AWS, and its images by exact name.
DEBIAN = "136693071363"
IMAGES = {
    "debian-12-amd64-20250316-2053": "x86_64",
    "debian-12-arm64-20250316-2053": "arm64",
    "debian-12-amd64-20260316-2418": "x86_64",
}
# Instance type -> virtual processors.
TYPES = {
    "t3.micro": 2, "t3.small": 2, "t3.medium": 2, "t3.large": 2, "m6i.large": 2, "m6i.xlarge": 4,
    "m7i.large": 2, "c6i.large": 2, "c6i.xlarge": 4, "c6i.2xlarge": 8, "c6in.large": 2, "c6in.xlarge": 4,
    "c6in.2xlarge": 8, "c6in.4xlarge": 16, "c6in.8xlarge": 32, "c6in.16xlarge": 64,
    "c7i.large": 2, "c7i.xlarge": 4, "c7i.2xlarge": 8,
    "c7gn.large": 2, "c7gn.xlarge": 4, "r6i.large": 2,
}  # fmt: skip
QUOTAS = {"VPCs": 5, "Elastic IPs": 20, "vCPUs": 512, "NAT gateways": 5, "security groups": 2500}


def image_id(name: str, region: str) -> str:
    """The id an image of this name has in a region: the same for everybody, different in each region."""
    import hashlib

    return "ami-" + hashlib.sha256(f"{name} {region}".encode()).hexdigest()[:17]


def images(region: str) -> dict[str, str]:
    """Image id -> name."""
    return {image_id(name, region): name for name in IMAGES}


def zones(region: str) -> list[str]:
    return [region + letter for letter in ZONES.get(region, "")]
