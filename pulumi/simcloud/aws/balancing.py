"""AWS load balancers, and records of Route 53."""

from __future__ import annotations

import re

from simcloud import rules
from simcloud.aws import facts, network
from simcloud.schema import Refused, Request, Type, Values

TARGETS, LISTENER = "aws:lb/targetGroup:TargetGroup", "aws:lb/listener:Listener"
ATTACHMENT = "aws:lb/targetGroupAttachment:TargetGroupAttachment"
HEALTH_CHECK, RECORD = "aws:route53/healthCheck:HealthCheck", "aws:route53/record:Record"
PROTOCOLS = ("TCP", "UDP", "TCP_UDP", "TLS", "HTTP", "HTTPS")
POLICIES = (
    "latencyRoutingPolicies",
    "weightedRoutingPolicies",
    "geolocationRoutingPolicies",
    "failoverRoutingPolicies",
)
# 32 letters, digits and hyphens; a hyphen neither first nor last.
NAME = rules.matches(
    r"(?!internal-)[a-zA-Z0-9]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?", "1 to 32 letters, digits and inner hyphens"
)


def _balancer(request: Request) -> None:
    if any(
        other.inputs["name"] == request.get("name")
        for other in request.others(network.BALANCER, region=request.region)
    ):
        raise Refused(f"DuplicateLoadBalancerName: there is a load balancer {request.get('name')}")
    zones = set()
    for mapping in request.get("subnetMappings") or []:
        subnet = request.find(mapping["subnetId"], network.SUBNET)
        assert subnet is not None
        if subnet.inputs["availabilityZone"] in zones:
            raise Refused(f"InvalidConfigurationRequest: two subnets in {subnet.inputs['availabilityZone']}")
        zones.add(subnet.inputs["availabilityZone"])
        if mapping.get("allocationId"):
            network.allocation_is_free(request, mapping["allocationId"], network.EIP_ASSOCIATION)
        if not request.get("internal") and not network.has_internet(request, subnet.inputs["vpcId"]):
            raise Refused(f"InvalidSubnet: {subnet.inputs['vpcId']} has no internet gateway")
    if not zones and not request.get("subnets"):
        raise Refused("ValidationError: a load balancer needs subnets or subnetMappings")


def _interfaces(request: Request) -> list[Values]:
    """Its own address in each zone: security groups know it by these, and health checks come from them."""
    mapped = [mapping["subnetId"] for mapping in request.get("subnetMappings") or []]
    return [
        {"subnetId": subnet, "privateIp": network.private_address(request, subnet)}
        for subnet in mapped or request.get("subnets") or []
    ]


def _listener(request: Request) -> None:
    mine = (request.get("loadBalancerArn"), request.get("port"))
    for other in request.others(LISTENER):
        if (other.inputs["loadBalancerArn"], other.inputs["port"]) == mine:
            raise Refused(f"DuplicateListener: a listener on port {request.get('port')} exists")
    for action in request.get("defaultActions") or []:
        group = request.find(action.get("targetGroupArn", ""), TARGETS)
        if group and group.inputs["protocol"] != request.get("protocol"):
            raise Refused(
                f"InvalidConfigurationRequest: listener {request.get('protocol')}, "
                f"target group {group.inputs['protocol']}"
            )


def _targets(request: Request) -> None:
    if any(
        other.inputs["name"] == request.get("name")
        for other in request.others(TARGETS, region=request.region)
    ):
        raise Refused(f"DuplicateTargetGroupName: there is a target group {request.get('name')}")


def _attach(request: Request) -> None:
    group = request.find(request.get("targetGroupArn"), TARGETS)
    assert group is not None
    if network.vpc_of(request, request.get("targetId")) not in ("", group.inputs.get("vpcId")):
        raise Refused(f"InvalidTarget: {request.get('targetId')} is not in {group.inputs.get('vpcId')}")


def _record(request: Request) -> None:
    routed = any(request.get(key) for key in POLICIES)
    if routed != bool(request.get("setIdentifier")):
        raise Refused("InvalidInput: setIdentifier and a routing policy belong together")
    for other in request.others(RECORD):
        same = all(
            other.inputs.get(key) == request.get(key) for key in ("zoneId", "name", "type", "setIdentifier")
        )
        if same:
            raise Refused(f"InvalidChangeBatch: {request.get('name')} {request.get('type')} exists already")
    if not request.get("aliases") and not (request.get("ttl") and request.get("records")):
        raise Refused("InvalidInput: a record has ttl and records, or aliases")


def _arn(kind: str) -> str:
    return f"arn:aws:elasticloadbalancing:{{region}}:{facts.ACCOUNT}:{kind}/{{name}}/{{digits}}"


TYPES = (
    Type(
        network.BALANCER,
        _arn("loadbalancer/net"),
        named="name",
        name_rule=NAME,
        fixed=frozenset({"name", "internal", "loadBalancerType", "subnetMappings"}),
        rules={
            "loadBalancerType": rules.one_of(("network", "application", "gateway"), "type of load balancer")
        },
        defaults={"internal": False, "loadBalancerType": "application"},
        outputs={
            "arn": "{id}",
            "dnsName": "{name}-{digits}.elb.{region}.amazonaws.com",
            "zoneId": "Z26RNL4JYFTOTI",
            "networkInterfaces": _interfaces,
        },
        admit=_balancer,
    ),
    Type(
        TARGETS,
        _arn("targetgroup"),
        named="name",
        name_rule=NAME,
        fixed=frozenset({"name", "port", "protocol", "targetType", "vpcId"}),
        rules={
            "port": rules.between(1, 65535, "port"),
            "protocol": rules.one_of(PROTOCOLS, "protocol"),
            "targetType": rules.one_of(("instance", "ip", "alb", "lambda"), "target type"),
            "healthCheck.protocol": rules.one_of(("HTTP", "HTTPS", "TCP"), "protocol of health checks"),
        },
        defaults={"targetType": "instance"},
        outputs={"arn": "{id}", "arnSuffix": "targetgroup/{name}/{digits}"},
        admit=_targets,
    ),
    Type(
        LISTENER,
        _arn("listener/net"),
        required=("loadBalancerArn", "defaultActions"),
        fixed=frozenset({"loadBalancerArn"}),
        rules={"port": rules.between(1, 65535, "port"), "protocol": rules.one_of(PROTOCOLS, "protocol")},
        outputs={"arn": "{id}"},
        admit=_listener,
    ),
    Type(
        ATTACHMENT,
        "{targetGroupArn}-{digits}",
        required=("targetGroupArn", "targetId"),
        fixed=frozenset({"targetGroupArn", "targetId", "port", "availabilityZone"}),
        admit=_attach,
    ),
    Type(
        HEALTH_CHECK,
        "{digits}",
        everywhere=True,
        required=("type",),
        fixed=frozenset({"type", "requestInterval"}),
        rules={
            "type": rules.one_of(("HTTP", "HTTPS", "TCP", "CALCULATED"), "type of health check"),
            "requestInterval": rules.one_of((10, 30), "interval"),
            "failureThreshold": rules.between(1, 10),
        },
        outputs={"arn": "arn:aws:route53:::healthcheck/{id}"},
    ),
    Type(
        RECORD,
        "{zoneId}_{name}_{type}_{digits}",
        everywhere=True,
        required=("zoneId", "name", "type"),
        fixed=frozenset({"zoneId", "name", "type", "setIdentifier"}),
        refers={"healthCheckId": HEALTH_CHECK},
        rules={
            "zoneId": rules.matches(r"Z[A-Z0-9]{1,31}", "the id of a hosted zone begins with Z"),
            "ttl": rules.between(0, 2147483647, "time to live"),
            "type": rules.one_of(("A", "AAAA", "CNAME", "TXT", "MX", "CAA", "SRV", "NS"), "record type"),
        },
        outputs={"fqdn": lambda request: re.sub(r"\.?$", "", str(request.get("name")))},
        admit=_record,
    ),
)
