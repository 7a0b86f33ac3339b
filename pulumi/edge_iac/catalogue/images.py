"""The image every host boots from, pinned: exact names and versions that never come to mean another image.

Debian 12 carries the datapath (Linux 6.1). On AWS an image has another id in each region; its name, with date
and build number, is unique within Debian's account, so it is looked up by exact name and owner.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNEL: tuple[int, int] = (6, 1)
"""Linux of the image."""

AWS_OWNER = "136693071363"
"""Debian's account on AWS."""
AWS_NAME = "debian-12-amd64-20250316-2053"
GCP_LINK = "projects/debian-cloud/global/images/debian-12-bookworm-v20250311"
AZURE_URN = "debian:debian-12:12-gen2:0.20250316.2053"
WITHOUT_CLOUD_INIT = frozenset({"gcp"})
"""Clouds whose Debian images have no cloud-init: Google's have its guest agent instead."""


@dataclass(frozen=True, slots=True)
class AzureImage:
    """An image of Azure's marketplace, with its exact version."""

    publisher: str
    offer: str
    sku: str
    version: str


def azure_image(urn: str) -> AzureImage:
    """'publisher:offer:sku:version' in parts. Raises ValueError for another form."""
    parts = urn.split(":")
    if len(parts) != 4 or not all(parts):
        raise ValueError(urn)
    return AzureImage(*parts)


def unpinned(cloud: str, image: str) -> str | None:
    """Why ``image`` is not one exact image of ``cloud``, in words; None when it is."""
    if cloud == "aws":
        return None if image.startswith("ami-") and len(image) in (12, 21) else "is not an AMI id (ami-...)"
    if cloud == "gcp":
        if "/family/" in image:
            return "names a family, whose newest image changes"
        return None if "/global/images/" in image else "is not the self link of an image"
    try:
        version = azure_image(image).version
    except ValueError:
        return "is not publisher:offer:sku:version"
    return "names the latest version, which changes" if version.lower() == "latest" else None
