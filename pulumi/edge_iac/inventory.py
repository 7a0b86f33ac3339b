"""`edge_inventory`: the one output of a stack, from which Ansible makes hosts. Plain JSON, never secret."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

import pulumi
from edge_iac.base import Made, Routes, Vip
from edge_iac.catalogue.sizes import TYPES, size_of
from edge_iac.plan import Host, Plan
from edge_iac.plan.prices import prices_of
from edge_iac.plan.reachability import span_text
from edge_iac.site import Role
from edge_iac.site.reach import PORTS_OF_THE_INVENTORY
from edge_iac.site.values import GroupName
from xds_agent.model.base import IPV4_PATTERN, IPV6_PATTERN, Count, Model, Name, Port, Text

SCHEMA = "edge.inventory/v1"

Ip = Annotated[str, StringConstraints(pattern=rf"^(?:{IPV4_PATTERN}|{IPV6_PATTERN})$")]


class NicContract(Model):
    """What the host's main interface promises; provisioning compares it with the host."""

    driver: Text
    queues: Count
    mtu: Count
    xdp: Literal["native", "generic"]


class HostEntry(Model):
    """A host of the inventory."""

    name: Name
    id: Text = Field(description="The cloud's own id of the instance.")
    cloud: Text
    region: Text
    zone: str
    groups: tuple[GroupName, ...]
    address: Ip = Field(description="Where one logs in: public, or private for hosts without a public one.")
    address6: Ip | None = None
    private_address: Ip
    user: Text
    jump: Name | None = Field(default=None, description="Host to log in through.")
    nic: NicContract
    labels: dict[str, str] = Field(default_factory=dict)
    opened: tuple[Text, ...] = Field(
        default=(), description="What somebody may reach on it: 'tcp 443', 'udp 9000-9010'."
    )


class VipEntry(Model):
    """An address clients connect to."""

    name: Name
    cloud: Text
    region: Text
    address: Ip
    seen_as: Ip | Literal["private_address"] = Field(
        description="Destination address the edge hosts see; private_address: each its own."
    )
    address6: Ip | None = None


class MeshNetwork(Model):
    """A region as role `interconnect` takes it."""

    cloud: Text
    region: Text
    ranges: tuple[Text, ...]
    gateways: tuple[Name, ...]


class MeshGateway(Model):
    """A host that a route may point at."""

    name: Name
    interface: Text
    address: Ip


class MeshTables(Model):
    """Route tables of a region that are changed when a gateway dies."""

    cloud: Text
    region: Text
    tables: tuple[Text, ...]
    ranges: tuple[Text, ...]
    gateways: tuple[MeshGateway, ...]


class MeshEntry(Model):
    """Private reach between the regions."""

    type: Literal["wireguard"]
    networks: tuple[MeshNetwork, ...]
    tables: tuple[MeshTables, ...] = ()


class EdgeInventory(Model):
    """The output as a whole."""

    schema_: Literal["edge.inventory/v1"] = Field(alias="schema")
    site: Name
    ssh_ca: Text = Field(description="Public key of the host authority, for @cert-authority lines.")
    vips: tuple[VipEntry, ...]
    hosts: tuple[HostEntry, ...]
    ports: dict[str, Port] = Field(
        default_factory=dict, description="The proxies' own ports, for which rules and balancers are made."
    )
    prices: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict, description="cloud -> region -> {egress_usd_per_gb}."
    )
    interconnect: MeshEntry | None = Field(
        default=None, description="Private reach between the regions, where the program makes it."
    )


def edge_inventory(
    plan: Plan,
    *,
    ssh_ca: pulumi.Output[str],
    hosts: list[tuple[str, str, Made]],
    vips: list[Vip],
    routes: list[Routes],
) -> pulumi.Output[dict[str, Any]]:
    """The output, checked once every address is known. ``hosts``: (cloud, region, host)."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "site": plan.site.name,
        "ssh_ca": ssh_ca,
        "vips": [
            {
                "name": f"{vip.cloud}-{vip.name}",
                "cloud": vip.cloud,
                "region": vip.region,
                "address": vip.address,
                "seen_as": vip.seen_as,
            }
            for vip in vips
        ],
        "hosts": [_host(plan, cloud, region, made) for cloud, region, made in hosts],
        "ports": plan.site.ports.model_dump(exclude=set(PORTS_OF_THE_INVENTORY)),
        "prices": prices_of(plan),
    }
    if plan.joined:
        document["interconnect"] = _interconnect(plan, routes)
    return pulumi.Output.from_input(document).apply(checked)


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` when it keeps to the schema, without IPv6 addresses that no cloud has given yet.

    Raises pydantic's ValidationError.
    """
    for host in document["hosts"]:
        if host.get("address6") == "":
            del host["address6"]
    EdgeInventory.model_validate(document)
    return document


def _host(plan: Plan, cloud: str, region: str, made: Made) -> dict[str, Any]:
    host = made.plan
    entry: dict[str, Any] = {
        "name": host.name,
        "id": made.id,
        "cloud": cloud,
        "region": region,
        "zone": host.zone,
        "groups": list(host.groups),
        "address": made.address,
        "private_address": made.private_address,
        "user": plan.site.ssh.user,
        "nic": made.type.apply(lambda name: _nic(cloud, name, host)),
        "labels": made.type.apply(lambda name: _labels(cloud, name, host)),
        "opened": _opened(plan, cloud, region, host.role),
    }
    if made.address6 is not None:
        entry["address6"] = made.address6
    if jump := _jump(plan, cloud, region, public=host.public):
        entry["jump"] = jump
    return entry


def _opened(plan: Plan, cloud: str, region: str, role: Role) -> list[str]:
    here = next(one for one in plan.regions if (one.cloud, one.name) == (cloud, region))
    rules = [rule for rule in here.rules if rule.target == role]
    return sorted({f"{rule.protocol} {span_text(span)}" for rule in rules for span in rule.ports})


def _nic(cloud: str, type_name: str, host: Host) -> dict[str, Any]:
    """What the interface of the type that the host has promises, which may not be the site file's yet."""
    size = size_of(cloud, type_name)
    nic = (TYPES[cloud][size] if size else host.instance).nic
    return {"driver": nic.driver, "queues": nic.queues, "mtu": nic.mtu, "xdp": nic.xdp}


def _labels(cloud: str, type_name: str, host: Host) -> dict[str, str]:
    size = size_of(cloud, type_name) or host.size
    return {"pool": host.pool, "role": host.role, "size": size, "type": type_name or host.instance.name}


def _interconnect(plan: Plan, routes: list[Routes]) -> dict[str, Any]:
    return {
        "type": "wireguard",
        "networks": [
            {
                "cloud": region.cloud,
                "region": region.name,
                "ranges": [region.network],
                "gateways": list(region.mesh.gateways),
            }
            for region in plan.joined
            if region.mesh
        ],
        "tables": [
            {
                "cloud": one.cloud,
                "region": one.region,
                "tables": list(one.tables),
                "ranges": list(one.ranges),
                "gateways": [
                    {"name": name, "interface": interface, "address": address}
                    for name, interface, address in one.gateways
                ],
            }
            for one in routes
        ],
    }


def _jump(plan: Plan, cloud: str, region: str, *, public: bool) -> str | None:
    role = plan.site.ssh.jump
    if public or role is None:
        return None
    here = next(one for one in plan.regions if (one.cloud, one.name) == (cloud, region))
    return next((host.name for host in here.of_role(role)), None)
