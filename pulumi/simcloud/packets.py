"""What each simulated machine lets in, worked out from what the clouds hold, as rules for packets.

Rules that name groups, tags or services become addresses here, as in the clouds' own fabric. What a machine
sends is let out; one that does not forward neither sends nor takes packets of other addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simcloud.aws import network as aws
from simcloud.azure import network as azure
from simcloud.cloud import Cloud
from simcloud.gcp import network as gcp
from simcloud.probes import AZURE_PROBES
from simcloud.schema import Values
from simcloud.values import at, first
from simcloud.world import Record, World

EVERYBODY = "0.0.0.0/0"
CHAIN_IN, CHAIN_OUT = "SIMCLOUD-IN", "SIMCLOUD-OUT"
DESCRIBED = ("name", "cloud", "region", "address", "subnet", "range", "forwards")
HOOKS = (
    ("INPUT", "-i", CHAIN_IN),
    ("FORWARD", "-i", CHAIN_IN),
    ("OUTPUT", "-o", CHAIN_OUT),
    ("FORWARD", "-o", CHAIN_OUT),
)


@dataclass(frozen=True)
class Guard:
    """One rule for packets that open a connection; the first that matches decides, and at the end none."""

    lets: bool
    sources: tuple[str, ...]
    protocol: str
    """tcp, udp, icmp or all."""
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Guarded:
    """A machine and the rules before it."""

    name: str
    cloud: str
    region: str
    address: str
    subnet: str
    range: str
    forwards: bool
    guards: tuple[Guard, ...]


def guarded(cloud: Cloud, world: World) -> list[Guarded]:
    """Every machine of a cloud with its rules."""
    rules_of = {"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud.name]
    found = []
    for record in world.records:
        describe = cloud.types[record.token].machine
        if describe is None:
            continue
        machine = describe(record, world)
        rules = tuple(rule for rule in rules_of(record, world) if rule.sources)
        said = {key: machine[key] for key in DESCRIBED}
        found.append(Guarded(**said, guards=rules))
    return found


def restored(machine: Guarded) -> str:
    """The rules as iptables-restore --noflush takes them; HOOKS lead to them."""
    own = f"{machine.address}/32"
    strangers_in = [] if machine.forwards else [f"-A {CHAIN_IN} ! -d {own} -j DROP"]
    strangers_out = [] if machine.forwards else [f"-A {CHAIN_OUT} ! -s {own} -j DROP"]
    lines = [
        "*filter",
        f":{CHAIN_IN} - [0:0]",
        f":{CHAIN_OUT} - [0:0]",
        *strangers_out,
        *strangers_in,
        f"-A {CHAIN_IN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        *(line for guard in machine.guards for line in _lines(guard)),
        f"-A {CHAIN_IN} -j DROP",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def _lines(guard: Guard) -> Iterator[str]:
    verdict = "RETURN" if guard.lets else "DROP"
    protocol = [] if guard.protocol == "all" else ["-p", guard.protocol]
    spans = [["--dport", f"{low}:{high}"] for low, high in guard.ports] or [[]]
    for source in guard.sources:
        for span in spans:
            yield " ".join(["-A", CHAIN_IN, "-s", source, *protocol, *span, "-j", verdict])


def _spans(ports: object) -> tuple[tuple[int, int], ...]:
    """("443", "1000-2000") -> ((443, 443), (1000, 2000)); none where every port is meant."""
    texts = [str(one) for one in ports] if isinstance(ports, list) else []
    if "*" in texts:
        return ()
    pairs = [text.partition("-")[::2] for text in texts]
    return tuple((int(low), int(high or low)) for low, high in pairs)


def _aws(record: Record, world: World) -> Iterator[Guard]:
    """Security groups: whatever rule of any of its groups matches lets in."""
    groups = set(record.inputs.get("vpcSecurityGroupIds") or [])
    members: dict[str, list[str]] = {}
    for other in world.of(aws.INSTANCE):
        for group in other.inputs.get("vpcSecurityGroupIds") or []:
            members.setdefault(group, []).append(f"{other.outputs['privateIp']}/32")
    for balancer in world.of(aws.BALANCER):
        for group in balancer.inputs.get("securityGroups") or []:
            own = aws.interfaces_of(balancer).values()
            members.setdefault(group, []).extend(f"{address}/32" for address in own)
    for rule in world.of(aws.INGRESS_RULE):
        said = rule.inputs
        if said["securityGroupId"] not in groups:
            continue
        named = said.get("referencedSecurityGroupId")
        sources = members.get(named, []) if named else [said["cidrIpv4"]] if said.get("cidrIpv4") else []
        protocol = "all" if said["ipProtocol"] == "-1" else said["ipProtocol"]
        ported = protocol in ("tcp", "udp")
        ports = ((int(said["fromPort"]), int(said["toPort"])),) if ported else ()
        yield Guard(True, tuple(sources), protocol, ports)


def _gcp(record: Record, world: World) -> Iterator[Guard]:
    """Firewall rules of the network by priority; what refuses comes first among equals."""
    tags = set(record.inputs.get("tags") or [])
    network = _gcp_network(record, world)
    tagged: dict[str, list[str]] = {}
    for other in world.of(gcp.INSTANCE):
        if _gcp_network(other, world) == network:
            for tag in other.inputs.get("tags") or []:
                tagged.setdefault(tag, []).append(
                    f"{first(other.outputs, 'networkInterfaces[].networkIp')}/32"
                )
    rules = [
        rule.outputs
        for rule in world.of(gcp.FIREWALL)
        if world.find(str(rule.inputs["network"]), gcp.NETWORK) == network
        and rule.outputs["direction"] == "INGRESS"
    ]
    for said in sorted(rules, key=lambda said: (said["priority"], not said.get("denies"))):
        if said.get("targetTags") and not tags & set(said["targetTags"]):
            continue
        sources = [*(said.get("sourceRanges") or [])]
        sources += [address for tag in said.get("sourceTags") or [] for address in tagged.get(tag, [])]
        sources = [source for source in sources if ":" not in source]
        for lets, each in [(True, one) for one in said.get("allows") or []] + [
            (False, one) for one in said.get("denies") or []
        ]:
            if each["protocol"] in ("tcp", "udp", "icmp", "all"):
                yield Guard(lets, tuple(sources), each["protocol"], _spans(each.get("ports")))


def _gcp_network(instance: Record, world: World) -> Record | None:
    subnetwork = world.find(str(first(instance.inputs, "networkInterfaces[].subnetwork")), gcp.SUBNETWORK)
    return world.find(str(subnetwork.inputs["network"]), gcp.NETWORK) if subnetwork else None


def _azure(record: Record, world: World) -> Iterator[Guard]:
    """The security group of the interface by priority, then Azure's own three rules."""
    interface = world.find(
        str(first(record.inputs, "networkProfile.networkInterfaces[].id")), azure.INTERFACE
    )
    assert interface is not None, "a machine without an interface is refused"
    members: dict[str, list[str]] = {}
    for other in world.of(azure.INTERFACE):
        for part in other.outputs.get("ipConfigurations") or []:
            for group in at(part, "applicationSecurityGroups[].id"):
                members.setdefault(group, []).append(f"{part['privateIPAddress']}/32")
    whole = _azure_ranges(interface, world)
    services = {
        "*": [EVERYBODY],
        "Internet": [EVERYBODY],
        "VirtualNetwork": whole,
        "AzureLoadBalancer": [f"{AZURE_PROBES}/32"],
    }
    group = world.find(str(first(interface.inputs, "networkSecurityGroup.id")), azure.NSG)
    given = group.inputs.get("securityRules") or [] if group is not None else []
    own = [rule for rule in given if rule["direction"] == "Inbound"]
    for said in sorted(own, key=lambda said: said["priority"]):
        protocol = {"*": "all"}.get(said["protocol"], said["protocol"].lower())
        if protocol in ("tcp", "udp", "icmp", "all"):
            ported = protocol in ("tcp", "udp")
            ports = (
                _spans(said.get("destinationPortRanges") or [said["destinationPortRange"]]) if ported else ()
            )
            yield Guard(
                said["access"] == "Allow", tuple(_azure_sources(said, services, members)), protocol, ports
            )
    yield Guard(True, tuple(whole), "all")
    yield Guard(True, (f"{AZURE_PROBES}/32",), "all")


def _azure_sources(
    said: Values, services: Mapping[str, list[str]], members: Mapping[str, list[str]]
) -> Iterator[str]:
    prefixes = [said["sourceAddressPrefix"]] if said.get("sourceAddressPrefix") else []
    for prefix in [*prefixes, *(said.get("sourceAddressPrefixes") or [])]:
        yield from (one for one in services.get(prefix, [prefix]) if ":" not in one)
    for group in at(said, "sourceApplicationSecurityGroups[].id"):
        yield from members.get(group, [])


def _azure_ranges(interface: Record, world: World) -> list[str]:
    subnet = world.find(str(first(interface.inputs, "ipConfigurations[].subnet.id")), azure.SUBNET)
    assert subnet is not None, "an interface without a subnet is refused"
    key = ("resourceGroupName", "virtualNetworkName")
    for network in world.of(azure.NETWORK):
        if all(network.inputs.get(part) == subnet.inputs.get(part) for part in key):
            return list(network.inputs["addressSpace"]["addressPrefixes"])
    return []
