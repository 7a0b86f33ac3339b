"""What of Google Cloud the simulation knows."""

from __future__ import annotations

PUBLIC = "198.18.128.0/17"
API = "https://www.googleapis.com/compute/v1/"
ZONES = {
    "us-central1": "abcf", "us-east1": "bcd", "us-east4": "abc", "us-west1": "abc", "europe-west1": "bcd",
    "europe-west3": "abc", "europe-west4": "abc", "europe-north1": "abc", "asia-northeast1": "abc",
    "asia-southeast1": "abc", "southamerica-east1": "abc",
}  # fmt: skip
REGIONS = frozenset(ZONES)
# Images that one may name exactly: the project of Debian's images, and those of 2025 on.
IMAGE_PROJECT = "debian-cloud"
IMAGES = (
    "debian-12-bookworm-v20250311", "debian-12-bookworm-v20250415", "debian-12-bookworm-v20250610",
    "debian-12-bookworm-v20250812", "debian-12-bookworm-v20260114",
)  # fmt: skip
# Machine type -> virtual processors, and whether a GVNIC is all it has.
TYPES = {
    "e2-micro": 2, "e2-small": 2, "e2-medium": 2, "e2-standard-2": 2, "e2-standard-4": 4, "n2-standard-2": 2,
    "n2-standard-4": 4, "n2-standard-8": 8, "n2-standard-16": 16,
    "n2-standard-32": 32, "n2-standard-64": 64, "c3-standard-4": 4, "c3-standard-8": 8,
    "c3-standard-22": 22, "c3-highcpu-4": 4, "c3-highcpu-8": 8, "n2d-standard-4": 4, "c2-standard-4": 4,
    "c2-standard-8": 8, "n2-highcpu-4": 4, "n2-highcpu-8": 8, "c2-standard-16": 16,
}  # fmt: skip
ONLY_GVNIC = ("c3-", "c4-", "m3-", "h3-")
QUOTAS = {"NETWORKS": 15, "STATIC_ADDRESSES": 64, "CPUS": 512, "FIREWALLS": 200, "SUBNETWORKS": 275}


def zones(region: str) -> list[str]:
    return [f"{region}-{letter}" for letter in ZONES.get(region, "")]


def region_of(zone: str) -> str:
    return zone.rpartition("-")[0]
