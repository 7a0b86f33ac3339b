"""Who may reach SSH, and which hosts have a public address."""

from __future__ import annotations

from collections.abc import Iterator

from edge_policy.reading import SSH_PORT, Props, holds_port, is_everybody, items, mapping, tags_of

_ANY_PROTOCOL = ("-1", "all", "*")
CONTROL = "control"


def open_ssh(kind: str, props: Props) -> Iterator[str]:
    """Port 22 open to everybody."""
    found = {
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _aws_rule,
        "aws:ec2/securityGroupRule:SecurityGroupRule": _aws_old_rule,
        "aws:ec2/securityGroup:SecurityGroup": _aws_group,
        "gcp:compute/firewall:Firewall": _gcp_firewall,
        "azure-native:network:SecurityRule": _azure_rule,
        "azure-native:network:NetworkSecurityGroup": _azure_group,
    }.get(kind)
    if found is not None and found(props):
        yield "opens SSH to everybody; name the ranges one logs in from (ssh.sources of the site file)"


def _aws_ports(props: Props) -> bool:
    protocol = str(props.get("ipProtocol") or props.get("protocol") or "-1").lower()
    if protocol in _ANY_PROTOCOL:
        return True
    first, last = props.get("fromPort"), props.get("toPort")
    return protocol == "tcp" and holds_port([f"{int(first or 0)}-{int(last or 0)}"], SSH_PORT)


def _aws_rule(props: Props) -> bool:
    return _aws_ports(props) and any(is_everybody(props.get(key)) for key in ("cidrIpv4", "cidrIpv6"))


def _aws_old_rule(props: Props) -> bool:
    ranges = items(props.get("cidrBlocks")) + items(props.get("ipv6CidrBlocks"))
    return props.get("type") != "egress" and _aws_ports(props) and any(map(is_everybody, ranges))


def _aws_group(props: Props) -> bool:
    return any(_aws_old_rule(mapping(rule)) for rule in items(props.get("ingress")))


def _gcp_firewall(props: Props) -> bool:
    if str(props.get("direction") or "INGRESS").upper() != "INGRESS" or props.get("disabled"):
        return False
    # Neither ranges nor tags: Google Cloud takes everybody.
    ranges = items(props.get("sourceRanges"))
    named = items(props.get("sourceTags")) or items(props.get("sourceServiceAccounts"))
    if not (any(map(is_everybody, ranges)) or not (ranges or named)):
        return False
    return any(_gcp_allows(mapping(one)) for one in items(props.get("allows")))


def _gcp_allows(one: Props) -> bool:
    protocol = str(one.get("protocol", "")).lower()
    ports = items(one.get("ports"))
    return protocol in _ANY_PROTOCOL or (
        protocol in ("tcp", "6") and (not ports or holds_port(ports, SSH_PORT))
    )


def _azure_rule(props: Props) -> bool:
    if str(props.get("access")).lower() != "allow" or str(props.get("direction")).lower() != "inbound":
        return False
    sources = [props.get("sourceAddressPrefix"), *items(props.get("sourceAddressPrefixes"))]
    ports = [props.get("destinationPortRange"), *items(props.get("destinationPortRanges"))]
    protocol = str(props.get("protocol")).lower()
    return (
        protocol in ("tcp", "*")
        and any(is_everybody(one) for one in sources if one is not None)
        and holds_port([one for one in ports if one is not None], SSH_PORT)
    )


def _azure_group(props: Props) -> bool:
    return any(_azure_rule(mapping(rule)) for rule in items(props.get("securityRules")))


def public_control(kind: str, props: Props) -> Iterator[str]:
    """A control host with a public address, where the host itself says so."""
    if tags_of(props).get("edge-role") != CONTROL:
        return
    public = {
        "aws:ec2/instance:Instance": lambda: bool(props.get("associatePublicIpAddress")),
        "gcp:compute/instance:Instance": lambda: any(
            items(mapping(one).get("accessConfigs")) for one in items(props.get("networkInterfaces"))
        ),
        "azure-native:network:NetworkInterface": lambda: any(
            mapping(one).get("publicIPAddress") for one in items(props.get("ipConfigurations"))
        ),
    }.get(kind)
    if public is not None and public():
        yield "is a control host with a public address; control is reached by a private way"


def public_control_stack(resources: list[tuple[str, str, Props]]) -> Iterator[tuple[str, str]]:
    """(name, sentence) for elastic addresses of AWS that are put on control hosts.

    ``resources``: (type, name, properties as the stack knows them) of everything in the stack.
    """
    control = {
        str(props["id"])
        for kind, _, props in resources
        if kind == "aws:ec2/instance:Instance"
        and tags_of(props).get("edge-role") == CONTROL
        and props.get("id")
    }
    for kind, name, props in resources:
        if kind == "aws:ec2/eipAssociation:EipAssociation" and str(props.get("instanceId")) in control:
            yield name, "puts a public address on a control host; control is reached by a private way"
