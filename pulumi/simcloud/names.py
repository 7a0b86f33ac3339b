"""Names that the clouds' DNS answers by where clients are and by who is well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simcloud.aws import balancing as aws
from simcloud.azure import compute as azure
from simcloud.gcp import balancing as gcp
from simcloud.probes import GCP_PROBES, Probe
from simcloud.values import first
from simcloud.world import Record, World

# One address of those that Route 53 and Traffic Manager ask from.
ROUTE53_PROBES, TRAFFIC_MANAGER_PROBES = "54.183.255.130", "13.65.92.252"
_ROUTE53_CONNECT_S = 4


@dataclass(frozen=True)
class Endpoint:
    """An address, and the health check of it."""

    address: str
    probe: Probe | None


@dataclass(frozen=True)
class Choice:
    """One of the answers that a name has."""

    endpoints: tuple[Endpoint, ...]
    region: str | None
    """The keeper's region that it is for; None where answers are chosen by weight."""
    weight: int
    least: int
    """So many of its endpoints are well, or the choice is out."""
    whole: bool
    """Whether it is given as a whole; else what is not well is left out of it."""


@dataclass(frozen=True)
class Name:
    """A name with its choices, or one that stands for another."""

    name: str
    ttl_s: int
    cloud: str
    """The keeper, whose regions the choices name."""
    alias: str | None
    choices: tuple[Choice, ...]


def names(cloud: str, world: World) -> list[Name]:
    """Every name that a cloud keeps."""
    return list({"aws": _aws, "gcp": _gcp, "azure-native": _azure}[cloud](world))


def _plain(name: object) -> str:
    return str(name).rstrip(".").lower()


def _aws(world: World) -> Iterator[Name]:
    """Route 53: records of one name, each with its region or weight and a check of its own."""
    of_name: dict[str, list[Record]] = {}
    for record in world.of(aws.RECORD):
        if record.inputs["type"] == "A" and record.inputs.get("records"):
            of_name.setdefault(_plain(record.inputs["name"]), []).append(record)
    for name, records in of_name.items():
        choices = tuple(_aws_choice(record, world) for record in records)
        yield Name(name, int(records[0].inputs["ttl"]), "aws", None, choices)


def _aws_choice(record: Record, world: World) -> Choice:
    check = world.find(str(record.inputs.get("healthCheckId")), aws.HEALTH_CHECK)
    probes, least = _aws_checks(check, world)
    return Choice(
        endpoints=tuple(Endpoint(str(each), probes.get(str(each))) for each in record.inputs["records"]),
        region=first(record.inputs, "latencyRoutingPolicies[].region"),
        weight=int(first(record.inputs, "weightedRoutingPolicies[].weight", 1)),
        least=least,
        whole=True,
    )


def _aws_checks(check: Record | None, world: World) -> tuple[dict[str, Probe], int]:
    """Address -> check of it, and how many have to be good."""
    if check is None:
        return {}, 0
    if check.inputs["type"] != "CALCULATED":
        return {str(check.inputs["ipAddress"]): _aws_probe(check.inputs)}, 1
    children = [world.find(str(id_), aws.HEALTH_CHECK) for id_ in check.inputs.get("childHealthchecks") or []]
    probes = {str(child.inputs["ipAddress"]): _aws_probe(child.inputs) for child in children if child}
    return probes, int(check.inputs.get("childHealthThreshold", len(probes)))


def _aws_probe(said: dict[str, Any]) -> Probe:
    failures = int(said.get("failureThreshold", 3))
    return Probe(
        source=ROUTE53_PROBES,
        port=int(said.get("port", 80)),
        path=str(said.get("resourcePath", "/")),
        interval_s=int(said.get("requestInterval", 30)),
        unhealthy_after=failures,
        protocol="http" if said["type"] == "HTTP" else "tcp",
        healthy_after=failures,
        timeout_s=_ROUTE53_CONNECT_S,
        accepts=(200, 399),
    )


def _gcp(world: World) -> Iterator[Name]:
    """Cloud DNS: one record set with a policy; addresses that are not well are left out of an answer."""
    for record in world.of(gcp.RECORD):
        policy = first(record.inputs, "routingPolicy", {})
        check = world.find(str(policy.get("healthCheck")), gcp.CHECK)
        probe = _gcp_probe(check.inputs) if check else None
        items = [*(policy.get("geos") or []), *(policy.get("wrrs") or [])]
        choices = tuple(_gcp_choice(each, probe) for each in items)
        if choices and record.inputs["type"] == "A":
            yield Name(_plain(record.inputs["name"]), int(record.inputs["ttl"]), "gcp", None, choices)


def _gcp_choice(said: dict[str, Any], probe: Probe | None) -> Choice:
    checked = list(first(said, "healthCheckedTargets.externalEndpoints", []))
    plain = [] if checked else list(said.get("rrdatas") or [])
    endpoints = [Endpoint(str(one), probe) for one in checked] + [Endpoint(str(one), None) for one in plain]
    return Choice(tuple(endpoints), said.get("location"), int(said.get("weight", 1)), least=1, whole=False)


def _gcp_probe(said: dict[str, Any]) -> Probe:
    return Probe(
        source=GCP_PROBES,
        port=int(first(said, "tcpHealthCheck.port", 80)),
        path="/",
        interval_s=int(said.get("checkIntervalSec", 5)),
        unhealthy_after=int(said.get("unhealthyThreshold", 2)),
        protocol="tcp",
        healthy_after=int(said.get("healthyThreshold", 2)),
        timeout_s=int(said.get("timeoutSec", 5)),
    )


def _azure(world: World) -> Iterator[Name]:
    """Azure DNS has no checks: its records point at profiles of Traffic Manager, which answer one address."""
    for record in world.of(azure.RECORD):
        relative, zone = record.inputs["relativeRecordSetName"], record.inputs["zoneName"]
        profile = world.find(str(first(record.inputs, "targetResource.id")), azure.PROFILE)
        alias = first(record.inputs, "cnameRecord.cname") or (profile and _of_the_world(profile))
        if alias:
            name = _plain(zone if relative == "@" else f"{relative}.{zone}")
            yield Name(name, int(record.inputs.get("ttl", 300)), "azure", _plain(alias), ())
    for profile in world.of(azure.PROFILE):
        ttl = int(first(profile.inputs, "dnsConfig.ttl", 60))
        yield Name(_of_the_world(profile), ttl, "azure", None, tuple(_azure_choices(profile)))


def _of_the_world(profile: Record) -> str:
    return _plain(first(profile.outputs, "dnsConfig.fqdn"))


def _azure_choices(profile: Record) -> Iterator[Choice]:
    said = first(profile.inputs, "monitorConfig", {})
    is_http = said.get("protocol") == "HTTP"
    probe = Probe(
        source=TRAFFIC_MANAGER_PROBES,
        port=int(said.get("port", 80)),
        path=str(said.get("path", "/")),
        interval_s=int(said.get("intervalInSeconds", 30)),
        # So many failures are tolerated, and one good answer is enough.
        unhealthy_after=int(said.get("toleratedNumberOfFailures", 3)) + 1,
        protocol="http" if is_http else "tcp",
        timeout_s=int(said.get("timeoutInSeconds", 10)),
    )
    for endpoint in profile.inputs.get("endpoints") or []:
        target = (Endpoint(str(endpoint["target"]), probe),)
        yield Choice(target, endpoint.get("endpointLocation"), int(endpoint.get("weight", 1)), 1, whole=True)
