"""What hosts are made of: disks, images, metadata."""

from __future__ import annotations

from collections.abc import Iterator

from edge_iac.catalogue.images import unpinned

from edge_policy.reading import Props, items, mapping


def plain_disk(kind: str, props: Props) -> Iterator[str]:
    """A disk that is not encrypted. Google Cloud encrypts every disk, always."""
    if kind == "aws:ec2/instance:Instance":
        disks = [mapping(props.get("rootBlockDevice")), *map(mapping, items(props.get("ebsBlockDevices")))]
        if not all(disk.get("encrypted") is True for disk in disks):
            yield "has a disk that is not encrypted; say encrypted: true of each"
    elif kind == "aws:ebs/volume:Volume" and props.get("encrypted") is not True:
        yield "is not encrypted; say encrypted: true"
    elif (
        kind == "azure-native:compute:VirtualMachine"
        and mapping(props.get("securityProfile")).get("encryptionAtHost") is not True
    ):
        yield "is not encrypted on its host; say securityProfile.encryptionAtHost: true"
    elif kind == "azure-native:compute:Disk" and not mapping(props.get("encryption")).get("type"):
        yield "does not say how it is encrypted; say encryption.type"


def unpinned_image(kind: str, props: Props) -> Iterator[str]:
    """An image that may be another one tomorrow, which would replace hosts unasked."""
    for cloud, image in _images(kind, props):
        if why := unpinned(cloud, image):
            yield f"the image '{image}' {why}; give one exact image"


def _images(kind: str, props: Props) -> Iterator[tuple[str, str]]:
    if kind == "aws:ec2/instance:Instance":
        yield "aws", str(props.get("ami") or "")
    elif kind == "gcp:compute/instance:Instance":
        disk = mapping(mapping(props.get("bootDisk")).get("initializeParams"))
        yield "gcp", str(disk.get("image") or "")
    elif kind == "azure-native:compute:VirtualMachine":
        one = mapping(mapping(props.get("storageProfile")).get("imageReference"))
        if not one.get("id"):
            yield (
                "azure",
                ":".join(str(one.get(key) or "") for key in ("publisher", "offer", "sku", "version")),
            )


def open_metadata(kind: str, props: Props) -> Iterator[str]:
    """Metadata that a forged request of the host's own software could read."""
    by_token = mapping(props.get("metadataOptions")).get("httpTokens") == "required"
    if kind == "aws:ec2/instance:Instance" and not by_token:
        yield "hands out metadata without a token; say metadataOptions.httpTokens: required"
