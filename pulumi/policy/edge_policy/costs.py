"""Tags by which a bill is read: whose it is, and which site's."""

from __future__ import annotations

from collections.abc import Iterator

from edge_policy.reading import Props, tags_of

WANTED = ("owner", "edge-site")
TAGGED = frozenset(
    {
        "aws:ec2/eip:Eip",
        "aws:ec2/instance:Instance",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/vpc:Vpc",
        "aws:lb/loadBalancer:LoadBalancer",
        "gcp:compute/instance:Instance",
        "azure-native:compute:VirtualMachine",
        "azure-native:network:LoadBalancer",
        "azure-native:network:NatGateway",
        "azure-native:network:PublicIPAddress",
        "azure-native:resources:ResourceGroup",
    }
)
"""Things that cost money and take tags. Of Google Cloud the provider's default labels reach the rest."""


def untagged(kind: str, props: Props) -> Iterator[str]:
    """A thing on the bill of which nobody can tell whose it is."""
    missing = [tag for tag in WANTED if not tags_of(props).get(tag)]
    if kind in TAGGED and missing:
        yield f"has no tag {' and no tag '.join(missing)}; add it to `tags` of the site file"
