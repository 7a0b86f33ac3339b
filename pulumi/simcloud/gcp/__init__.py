"""The simulated Google Cloud."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from simcloud.cloud import Cloud
from simcloud.gcp import balancing, compute, facts, network
from simcloud.schema import Question, Refused, Values


def _region(inputs: Values, config: Mapping[str, Any]) -> str:
    zone = str(inputs.get("zone") or "")
    return str(inputs.get("region") or facts.region_of(zone) or config.get("region") or "")


def _configured(config: Values) -> Iterator[tuple[str, str]]:
    if not config.get("project"):
        yield "project", "project: required field is not set"
    if config.get("region") and config["region"] not in facts.REGIONS:
        yield "region", f"there is no region {config['region']} in Google Cloud"


def _image(question: Question) -> Values:
    name = question.arguments.get("name")
    if name not in facts.IMAGES or question.arguments.get("project") != facts.IMAGE_PROJECT:
        raise Refused(
            f"Error 404: The resource '{question.arguments.get('project')}/{name}' was not found, notFound"
        )
    link = f"{facts.API}projects/{facts.IMAGE_PROJECT}/global/images/{name}"
    return {**question.arguments, "id": link, "name": name, "selfLink": link}


CLOUD = Cloud(
    name="gcp",
    types={kind.token: kind for kind in (*network.TYPES, *compute.TYPES, *balancing.TYPES)},
    answers={"gcp:compute/getImage:getImage": _image},
    region=_region,
    regions=facts.REGIONS,
    # Images belong to everybody; what else is named by path is a resource of the project.
    reference=re.compile(
        r"(https://www\.googleapis\.com/compute/v1/)?projects/(?!debian-cloud)[^/]+/"
        r"(global|regions/[^/]+|zones/[^/]+)/\w+/[^/]+$"
    ),
    missing="Error 404: The resource '{id}' was not found, notFound",
    in_use="Error 400: The {word} '{id}' is already being used by '{users}', resourceInUse",
    exists="Error 409: The resource '{id}' already exists, alreadyExists",
    over_quota="Error 403: Quota '{quota}' exceeded. Limit: {allowed} in region {region}., quotaExceeded",
    failures={
        "error": "Error 503: Internal error. Please try again, backendError",
        "capacity": "ZONE_RESOURCE_POOL_EXHAUSTED: the zone does not have enough resources available",
        "throttle": "Error 403: Rate Limit Exceeded, rateLimitExceeded",
    },
    quotas=facts.QUOTAS,
    suffix_digits=7,
    configured=_configured,
)
