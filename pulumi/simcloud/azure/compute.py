"""Azure machines, identities and load balancers."""

from __future__ import annotations

import base64
import binascii
import copy
import re
import uuid
from typing import Any

from simcloud import addresses, rules
from simcloud.azure import facts, network
from simcloud.azure.network import type_
from simcloud.schema import Refused, Request, Type, Values
from simcloud.values import at, first
from simcloud.world import Record, World

IDENTITY = "azure-native:managedidentity:UserAssignedIdentity"
ASSIGNMENT = "azure-native:authorization:RoleAssignment"
PROFILE, RECORD = "azure-native:trafficmanager:Profile", "azure-native:dns:RecordSet"
CUSTOM_DATA_BYTES = 64 * 1024


def _machine_admitted(request: Request) -> None:
    network.group_of(request)
    image = first(request.inputs, "storageProfile.imageReference", {})
    versions = facts.IMAGES.get(
        tuple(str(image.get(key)).lower() for key in ("publisher", "offer", "sku")), ()
    )
    if not image.get("id") and image.get("version") not in versions:
        words = ", ".join(f"{key} {image.get(key)}" for key in ("publisher", "offer", "sku", "version"))
        raise Refused(f"PlatformImageNotFound: The platform image '{words}' is not available.")
    zones = network.zones_named(request.inputs, request.region)
    size = first(request.inputs, "hardwareProfile.vmSize")
    interfaces = list(at(request.inputs, "networkProfile.networkInterfaces[].id"))
    if not interfaces:
        raise Refused("InvalidParameter: Required parameter 'networkProfile' is missing (null).")
    for id_ in interfaces:
        _zoned(request, _interface(request, id_, size), zones)


def _interface(request: Request, id_: str, size: str) -> Record:
    interface = request.find(id_, network.INTERFACE)
    if interface is None:
        raise Refused(f"NotFound: Resource {id_} was not found.")
    if interface.region != request.region:
        raise Refused(
            f"InvalidResourceReference: {id_} is in {interface.region}, the machine in {request.region}."
        )
    if interface.inputs.get("enableAcceleratedNetworking") and not facts.SIZES[size][1]:
        raise Refused(
            f"VMSizeIsNotPermittedToEnableAcceleratedNetworking: {size} does not take accelerated networking."
        )
    for other in request.others(network.MACHINE):
        if id_ in at(other.inputs, "networkProfile.networkInterfaces[].id"):
            raise Refused(f"NicInUse: Network interface {id_} is used by {other.id}.")
    return interface


def _zoned(request: Request, interface: Record, zones: set[str]) -> None:
    """A machine in a zone has an address that is there too: of that zone, or of several."""
    for id_ in at(interface.inputs, "ipConfigurations[].publicIPAddress.id"):
        public = request.find(id_, network.ADDRESS)
        theirs = set(public.inputs.get("zones") or []) if public else zones
        if zones - theirs or (len(theirs) == 1 and theirs != zones):
            raise Refused(
                "ComputeResourceZoneConstraintDoesNotMatchPublicIPAddressZoneConstraint: the machine has a "
                f"zone constraint {' '.join(zones) or 'Regional'}, and {id_} a different zone constraint "
                f"{' '.join(sorted(theirs)) or 'Regional'}."
            )


def _custom_data(value: Any) -> str | None:
    try:
        size = len(base64.b64decode(str(value), validate=True))
    except binascii.Error:
        return "Custom data in OSProfile must be in Base64 encoding"
    return (
        None
        if size <= CUSTOM_DATA_BYTES
        else f"custom data is limited to {CUSTOM_DATA_BYTES} bytes; these are {size}"
    )


def _described(record: Record, world: World) -> Values:
    interface = world.find(
        str(first(record.inputs, "networkProfile.networkInterfaces[].id")), network.INTERFACE
    )
    subnet = (
        world.find(str(first(interface.inputs, "ipConfigurations[].subnet.id")), network.SUBNET)
        if interface
        else None
    )
    tags = record.outputs.get("tags") or {}
    return {
        "id": record.id,
        "name": tags.get("edge-host") or record.outputs["name"],
        "cloud": "azure",
        "region": record.region,
        "address": first(interface.outputs if interface else {}, "ipConfigurations[].privateIPAddress", ""),
        "subnet": subnet.id if subnet else "",
        "range": (subnet.inputs.get("addressPrefix") or subnet.inputs["addressPrefixes"][0])
        if subnet
        else "",
        "groups": str(tags.get("edge-groups", "")).split(),
        "forwards": bool(interface and interface.inputs.get("enableIPForwarding")),
        "user_data": base64.b64decode(str(first(record.inputs, "osProfile.customData") or "")).decode(
            errors="replace"
        ),
    }


def _identity(request: Request) -> Values:
    """Identities go in as a list and come back as a map with what the directory knows of each."""
    given = request.get("identity")
    users = {}
    for id_ in given.get("userAssignedIdentities") or []:
        known = request.find(id_, IDENTITY)
        users[id_] = {key: known.outputs[key] for key in ("clientId", "principalId")} if known else {}
    return {**given, "principalId": _uuid(request), **({"userAssignedIdentities": users} if users else {})}


def _uuid(request: Request) -> str:
    return str(uuid.UUID(request.digits(32)))


def _assignment(request: Request) -> None:
    wanted = request.get("principalId")
    if not any(other.outputs["principalId"] == wanted for other in request.others(IDENTITY)):
        raise Refused(f"PrincipalNotFound: Principal {wanted} does not exist in the directory.")


def _parts(key: str) -> Any:
    """The parts of a load balancer under ``key``, each with the id that others refer to."""

    def filled(request: Request) -> list[Values]:
        parts = copy.deepcopy(request.get(key) or [])
        return [{**part, "id": f"{request.id}/{key}/{part['name']}"} for part in parts]

    return filled


def _inner(request: Request) -> None:
    """Private addresses of a balancer lie in its subnet and are nobody's."""
    for front in request.get("frontendIPConfigurations") or []:
        zones = network.zones_named(front, request.region)
        if zones and front.get("publicIPAddress"):
            raise Refused(
                "LoadBalancerFrontendIPConfigCannotHaveZoneWhenReferencingPublicIPAddress: " + front["name"]
            )
        wanted = front.get("privateIPAddress")
        subnet = request.find(str(first(front, "subnet.id", "")), network.SUBNET)
        if bool(subnet) == bool(front.get("publicIPAddress")):
            raise Refused(f"InvalidRequestFormat: {front['name']} has a subnet or a public address.")
        if not wanted or subnet is None:
            continue
        if not addresses.usable(wanted, network.prefixes(subnet)[0], **network.RESERVED):
            raise Refused(
                f"PrivateIPAddressNotInSubnet: {wanted} cannot be used in {network.prefixes(subnet)[0]}."
            )
        if wanted in network.private_addresses(request):
            raise Refused(f"PrivateIPAddressInUse: {wanted} is allocated already.")


def _world_name(request: Request) -> None:
    """All of Azure shares the names under trafficmanager.net: what has no digits of its own is taken.

    The group that it lies in holds the zone: it is the user's, and stands in no program.
    """
    name = first(request.inputs, "dnsConfig.relativeName", "")
    ours = [first(other.inputs, "dnsConfig.relativeName") for other in request.others(PROFILE)]
    if name in ours or not re.search(r"[0-9a-f]{8}$", name):
        raise Refused(
            f"DomainNameLabelInUse: Domain name label {name} is already in use by another profile. "
            "Please choose a different domain name label and try again."
        )


def _balancer(request: Request) -> None:
    network.group_of(request)
    _inner(request)
    names = {key: {part["name"] for part in request.get(key) or []} for key in PARTS}
    wants = {
        "frontendIPConfiguration": "frontendIPConfigurations",
        "backendAddressPool": "backendAddressPools",
        "probe": "probes",
    }
    taken = set()
    for rule in request.get("loadBalancingRules") or []:
        if (rule.get("protocol") == "All") != (rule.get("frontendPort") == 0 == rule.get("backendPort")):
            raise Refused(f"LoadBalancingRuleInvalid: rule {rule['name']}: ports 0 go with protocol All.")
        for key, parts in wants.items():
            name = str(first(rule, f"{key}.id", "")).rpartition("/")[2]
            if name and name not in names[parts]:
                raise Refused(
                    f"InvalidResourceReference: rule {rule['name']} names {parts} {name}, which is not there."
                )
        front = (first(rule, "frontendIPConfiguration.id"), rule.get("protocol"), rule.get("frontendPort"))
        if front in taken:
            raise Refused(f"RulesUseSameFrontendPortProtocolAndIPConfig: rule {rule['name']}.")
        taken.add(front)


PARTS = ("frontendIPConfigurations", "backendAddressPools", "probes", "loadBalancingRules")

TYPES = (
    type_(
        network.MACHINE,
        "Compute",
        "virtualMachines",
        "vmName",
        required=("hardwareProfile", "storageProfile", "networkProfile"),
        name_rule=rules.matches(
            r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?",
            "a Linux machine has 1 to 64 letters, digits and inner hyphens",
        ),
        fixed=frozenset({"zones", "osProfile", "storageProfile"}),
        rules={
            "hardwareProfile.vmSize": rules.one_of(facts.SIZES, "size of the simulated Azure"),
            "storageProfile.osDisk.diskSizeGB": rules.between(30, 4095, "size of a disk to boot from"),
            "osProfile.customData": _custom_data,
            "osProfile.computerName": rules.matches(
                r"[a-zA-Z0-9][\w-]{0,63}", "a Linux computer name has 1 to 64 letters, digits and -"
            ),
            "osProfile.adminUsername": rules.matches(
                r"(?!root$|admin$|administrator$)[a-z_][\w-]{0,63}", "not root, admin or administrator"
            ),
        },
        outputs={"vmId": _uuid},
        fills={"identity": _identity},
        admit=_machine_admitted,
        weak=frozenset({"osProfile"}),
        quota="cores",
        weight=lambda inputs: facts.SIZES.get(first(inputs, "hardwareProfile.vmSize", ""), (1, False))[0],
        machine=_described,
    ),
    type_(
        IDENTITY,
        "ManagedIdentity",
        "userAssignedIdentities",
        "resourceName",
        name_rule=rules.matches(r"[a-zA-Z0-9][\w-]{2,127}", "3 to 128 letters, digits, _ and -"),
        outputs={
            "principalId": _uuid,
            "clientId": lambda r: _uuid(r)[::-1],
            "tenantId": lambda r: facts.SUBSCRIPTION,
        },
    ),
    Type(
        ASSIGNMENT,
        "{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}",
        named="roleAssignmentName",
        required=("scope", "roleDefinitionId", "principalId"),
        weak=frozenset({"scope", "roleDefinitionId"}),
        everywhere=True,
        fixed=frozenset({"scope", "roleDefinitionId", "principalId", "roleAssignmentName"}),
        outputs={"name": "{roleAssignmentName}"},
        admit=_assignment,
    ),
    type_(
        network.BALANCER,
        "Network",
        "loadBalancers",
        "loadBalancerName",
        fixed=frozenset({"sku"}),
        admit=_balancer,
        weak=frozenset({"loadBalancingRules"}),
        fills={key: _parts(key) for key in PARTS},
        rules={
            "sku.name": rules.one_of(("Basic", "Standard", "Gateway"), "sku"),
            "loadBalancingRules[].frontendPort": rules.between(0, 65534, "port"),
            "loadBalancingRules[].backendPort": rules.between(0, 65535, "port"),
            "probes[].port": rules.between(1, 65535, "port"),
        },
    ),
    type_(
        PROFILE,
        "Network",
        "trafficmanagerprofiles",
        "profileName",
        name_rule=network.named_in_public,
        everywhere=True,
        admit=_world_name,
        fills={
            "dnsConfig": lambda r: {
                **r.get("dnsConfig"),
                "fqdn": f"{first(r.inputs, 'dnsConfig.relativeName', '')}.trafficmanager.net",
            }
        },
    ),
    type_(
        RECORD,
        "Network",
        "dnsZones/{zoneName}/{recordType}",
        "relativeRecordSetName",
        everywhere=True,
        required=("zoneName", "recordType"),
        fixed=frozenset({"zoneName", "recordType"}),
        name_rule=rules.matches(r"(@|\*|[\w*.-]{1,253})", "@ or a name relative to the zone"),
        outputs={"fqdn": "{relativeRecordSetName}.{zoneName}."},
        admit=lambda request: None,
    ),
)
