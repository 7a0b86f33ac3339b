"""Google Cloud instances and identities."""

from __future__ import annotations

import copy
import re
from typing import Any

from simcloud import addresses, rules
from simcloud.gcp import facts, network
from simcloud.schema import Refused, Request, Type, Values
from simcloud.values import first
from simcloud.world import Record, World

ACCOUNT, MEMBER = "gcp:serviceaccount/account:Account", "gcp:projects/iAMMember:IAMMember"
METADATA_BYTES = 256 * 1024
LABEL = rules.matches(r"[a-z0-9_-]{0,63}", "a label has at most 63 lower-case letters, digits, _ and -")


def zone_of(request: Request) -> str:
    return str(request.get("zone") or request.config.get("zone") or "")


def _image_name(text: str) -> tuple[str, str]:
    """Project and name of an image, from its self link or short form."""
    match = re.search(r"(?:projects/)?([a-z0-9-]+)/(?:global/)?images/([^/]+)$", text) or re.fullmatch(
        r"([a-z0-9-]+)/([^/]+)", text
    )
    return (match[1], match[2]) if match else ("", text)


def _instance(request: Request) -> None:
    zone = zone_of(request)
    if zone not in facts.zones(facts.region_of(zone)):
        raise Refused(f"Error 400: Invalid value for field 'zone': '{zone}'. Unknown zone., invalid")
    image = first(request.inputs, "bootDisk.initializeParams.image", "")
    project, name = _image_name(str(image))
    if project != facts.IMAGE_PROJECT or name not in facts.IMAGES:
        raise Refused(f"Error 404: The resource '{image}' was not found, notFound")
    nic = first(request.inputs, "networkInterfaces[].nicType")
    if str(request.get("machineType")).startswith(facts.ONLY_GVNIC) and nic not in (None, "GVNIC"):
        raise Refused(f"Error 400: {request.get('machineType')} has GVNIC interfaces only, invalid")
    for interface in request.get("networkInterfaces") or []:
        _interface(request, interface, facts.region_of(zone))
    email = first(request.inputs, "serviceAccount.email")
    if email and not any(email in (other.outputs["email"], other.id) for other in request.others(ACCOUNT)):
        raise Refused(
            f"Error 400: The user does not have access to service account '{email}', or it does not exist"
        )


def _interface(request: Request, interface: Values, region: str) -> None:
    if not interface.get("subnetwork"):
        raise Refused("Error 400: a network interface needs a subnetwork (custom mode networks), invalid")
    subnetwork = network.needed(request, interface["subnetwork"], network.SUBNETWORK)
    if subnetwork.region != region:
        raise Refused(
            f"Error 400: {subnetwork.inputs['name']} is in {subnetwork.region}, not in {region}, invalid"
        )
    wanted = interface.get("networkIp")
    if wanted and not addresses.usable(wanted, subnetwork.inputs["ipCidrRange"], **network.RESERVED):
        raise Refused(f"Error 400: {wanted} cannot be used in {subnetwork.inputs['ipCidrRange']}, invalid")
    for access in interface.get("accessConfigs") or []:
        _access(request, access.get("natIp"), region)


def _access(request: Request, address: Any, region: str) -> None:
    if not address:
        return
    if any(address in network.public_of(other) for other in request.others(network.INSTANCE)):
        raise Refused(f"Error 400: External IP address {address} is already in use, invalid")
    if not any(
        (other.outputs["address"], other.region) == (address, region)
        for other in request.others(network.ADDRESS)
    ):
        raise Refused(f"Error 400: {address} is not a reserved address of {region}, invalid")


def _interfaces(request: Request) -> list[Values]:
    """The interfaces with what the cloud adds: private address, network, a public one where asked."""
    made = []
    for number, given in enumerate(copy.deepcopy(request.get("networkInterfaces") or [])):
        subnetwork = network.needed(request, given["subnetwork"], network.SUBNETWORK)
        before = first(request.before, "networkInterfaces[].networkIp") if number == 0 else None
        address = given.get("networkIp") or before or network.private_address(request, subnetwork)
        for access in given.get("accessConfigs") or []:
            access.setdefault("networkTier", "PREMIUM")
            access["natIp"] = access.get("natIp") or network.next_public(request)
        kept6 = first(request.before, "networkInterfaces[].ipv6AccessConfigs[].externalIpv6")
        for access in given.get("ipv6AccessConfigs") or []:
            access.setdefault("externalIpv6", kept6 or f"2600:1900::{request.world.serial:x}")
        made.append(
            {**given, "networkIp": address, "name": f"nic{number}", "network": subnetwork.inputs["network"]}
        )
    return made


def _renews(old: Values, new: Values) -> frozenset[str]:
    """An interface may change its public address in place, but not its subnetwork."""
    renewing = set()
    if [each.get("subnetwork") for each in old.get("networkInterfaces") or []] != [
        each.get("subnetwork") for each in new.get("networkInterfaces") or []
    ]:
        renewing.add("networkInterfaces")
    return frozenset(renewing)


def _machine(record: Record, world: World) -> Values:
    interface = record.outputs["networkInterfaces"][0]
    subnetwork = world.find(str(interface["subnetwork"]), network.SUBNETWORK)
    labels = record.outputs.get("labels") or {}
    return {
        "id": record.id,
        "name": labels.get("edge-host") or record.outputs["name"],
        "cloud": "gcp",
        "region": record.region,
        "address": interface["networkIp"],
        "subnet": subnetwork.id if subnetwork else "",
        "range": subnetwork.inputs["ipCidrRange"] if subnetwork else "",
        "groups": str(labels.get("edge-groups", "")).split("_"),
        "forwards": bool(record.outputs.get("canIpForward")),
    }


def _metadata(value: Any) -> str | None:
    size = len(str(value).encode())
    return None if size <= METADATA_BYTES else f"a metadata value is limited to {METADATA_BYTES} bytes"


def _member(request: Request) -> None:
    kind, _, who = str(request.get("member")).partition(":")
    accounts = request.others(ACCOUNT)
    if kind == "serviceAccount" and not any(other.outputs["email"] == who for other in accounts):
        raise Refused(f"Error 400: Service account {who} does not exist., badRequest")


TYPES = (
    Type(
        network.INSTANCE,
        "projects/{project}/zones/{zone}/instances/{name}",
        named="name",
        name_rule=network.NAME,
        required=("machineType", "bootDisk", "networkInterfaces"),
        fixed=frozenset(
            {
                "name",
                "zone",
                "project",
                "bootDisk",
                "scratchDisks",
                "hostname",
                "metadataStartupScript",
                "networkPerformanceConfig",
                "guestAccelerators",
            }
        ),
        renews=_renews,
        rules={
            "machineType": rules.one_of(facts.TYPES, "machine type of the simulated Google Cloud"),
            "networkInterfaces[].nicType": rules.one_of(("GVNIC", "VIRTIO_NET"), "type of network interface"),
            "bootDisk.initializeParams.size": rules.between(10, 65536, "size in GB"),
            "metadata.user-data": _metadata,
            "tags[]": network.NAME,
            "labels.edge-host": LABEL,
            "labels.edge-groups": LABEL,
            "labels.edge-site": LABEL,
        },
        defaults={"canIpForward": False},
        outputs={
            "selfLink": f"{facts.API}projects/{{project}}/zones/{{zone}}/instances/{{name}}",
            "project": "{project}",
            "instanceId": lambda request: str(int(request.digits(15), 16)),
            "cpuPlatform": lambda request: "simulated",
            "currentStatus": lambda request: "RUNNING",
        },
        admit=_instance,
        release=network.leave_groups,
        weak=frozenset({"metadata"}),
        quota="CPUS",
        weight=lambda inputs: facts.TYPES.get(inputs.get("machineType", ""), 1),
        fills={"networkInterfaces": _interfaces},
        machine=_machine,
    ),
    Type(
        ACCOUNT,
        "projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com",
        everywhere=True,
        required=("accountId",),
        fixed=frozenset({"accountId", "project"}),
        rules={
            "accountId": rules.matches(
                r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "6 to 30 lower-case letters, digits and hyphens"
            )
        },
        outputs={
            "email": "{accountId}@{project}.iam.gserviceaccount.com",
            "uniqueId": lambda request: str(int(request.digits(15), 16)),
            "member": "serviceAccount:{accountId}@{project}.iam.gserviceaccount.com",
            "name": "projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com",
        },
    ),
    Type(
        MEMBER,
        "{project}/{role}/{member}/{digits}",
        everywhere=True,
        required=("role", "member", "project"),
        fixed=frozenset({"project", "role", "member", "condition"}),
        admit=_member,
        rules={
            "role": rules.matches(r"(projects/.+/|organizations/.+/)?roles/[\w.]+", "a role is roles/..."),
            "member": rules.matches(
                r"(user|serviceAccount|group|domain|principal\w*):.+",
                "a member is serviceAccount:... or user:...",
            ),
        },
        outputs={"etag": "{digits}"},
    ),
)
