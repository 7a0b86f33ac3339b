"""The simulated AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from simcloud.aws import balancing, compute, facts, network
from simcloud.cloud import Cloud
from simcloud.schema import Question, Refused, Values


def _image(question: Question) -> Values:
    wanted = {each["name"]: each["values"] for each in question.arguments.get("filters") or []}
    patterns = [re.escape(text).replace(r"\*", ".*") for text in wanted.get("name", ["*"])]
    owners = question.arguments.get("owners") or []
    found = sorted(
        (name, id_)
        for id_, name in facts.images(question.region).items()
        if any(re.fullmatch(pattern, name) for pattern in patterns)
        and (not owners or facts.DEBIAN in owners)
        and facts.IMAGES[name] in wanted.get("architecture", [facts.IMAGES[name]])
    )
    if not found:
        raise Refused("Your query returned no results. Please change your search criteria and try again.")
    if len(found) > 1 and not question.arguments.get("mostRecent"):
        raise Refused("Your query returned more than one result. Please try a more specific search criteria.")
    name, id_ = found[-1]
    return {
        **question.arguments,
        "id": id_,
        "imageId": id_,
        "name": name,
        "ownerId": facts.DEBIAN,
        "architecture": facts.IMAGES[name],
        "rootDeviceName": "/dev/xvda",
        "virtualizationType": "hvm",
    }


def _zones(question: Question) -> Values:
    names = facts.zones(question.region)
    return {
        **question.arguments,
        "id": question.region,
        "names": names,
        "zoneIds": [f"{name}-id" for name in names],
    }


def _caller(question: Question) -> Values:
    arn = f"arn:aws:iam::{facts.ACCOUNT}:user/simulated"
    return {"id": facts.ACCOUNT, "accountId": facts.ACCOUNT, "arn": arn, "userId": "SIMULATED"}


def _region(inputs: Values, config: Mapping[str, Any]) -> str:
    return str(inputs.get("region") or config.get("region") or "")


def _configured(config: Values) -> Iterator[tuple[str, str]]:
    if config.get("region") not in facts.REGIONS:
        yield "region", f"Invalid AWS Region: {config.get('region')}"
    allowed = config.get("allowedAccountIds")
    if isinstance(allowed, list) and allowed and facts.ACCOUNT not in allowed:
        yield "allowedAccountIds", f"AWS account ID not allowed: {facts.ACCOUNT}"


CLOUD = Cloud(
    name="aws",
    types={kind.token: kind for kind in (*network.TYPES, *compute.TYPES, *balancing.TYPES)},
    answers={
        "aws:ec2/getAmi:getAmi": _image,
        "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
        "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    },
    region=_region,
    regions=facts.REGIONS,
    reference=re.compile(
        r"(vpc|subnet|sg|sgr|i|eni|rtb|igw|eigw|eipalloc|nat|acl)-[0-9a-f]{8,17}$|arn:aws:elasticloadbalancing:"
    ),
    missing="Invalid{word}ID.NotFound: {id} does not exist",
    in_use="DependencyViolation: {word} {id} is used by {users}",
    exists="AlreadyExists: {word} {id} exists",
    over_quota="LimitExceeded: {quota}: {allowed} are allowed in {region}",
    failures={
        "error": "InternalError: An internal error has occurred",
        "capacity": "InsufficientInstanceCapacity: there is no capacity for this instance type in the zone",
        "throttle": "RequestLimitExceeded: Request limit exceeded",
    },
    quotas=facts.QUOTAS,
    suffix_digits=7,
    configured=_configured,
)
