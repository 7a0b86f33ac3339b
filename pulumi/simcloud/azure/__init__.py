"""The simulated Azure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from simcloud.azure import compute, facts, network, security
from simcloud.cloud import Cloud
from simcloud.schema import Question, Values


def _region(inputs: Values, config: Mapping[str, Any]) -> str:
    return str(inputs.get("location") or config.get("location") or "").lower().replace(" ", "")


def _configured(config: Values) -> Iterator[tuple[str, str]]:
    if config.get("location") and _region({}, config) not in facts.REGIONS:
        yield "location", f"LocationNotAvailableForSubscription: there is no location {config['location']}"


def _client(question: Question) -> Values:
    subscription = question.config.get("subscriptionId", facts.SUBSCRIPTION)
    return {"clientId": "", "objectId": "", "subscriptionId": subscription, "tenantId": facts.SUBSCRIPTION}


CLOUD = Cloud(
    name="azure-native",
    types={kind.token: kind for kind in (*network.TYPES, *security.TYPES, *compute.TYPES)},
    answers={"azure-native:authorization:getClientConfig": _client},
    region=_region,
    regions=facts.REGIONS,
    reference=re.compile(
        r"/subscriptions/[^/]*/resourceGroups/[^/]+/providers/Microsoft\.(Network|Compute|ManagedIdentity)/"
    ),
    missing="InvalidResourceReference: Resource {id} referenced by the request was not found.",
    in_use="InUse{word}CannotBeDeleted: {id} is in use by {users}.",
    exists="Conflict: {word} {id} exists already.",
    over_quota="QuotaExceeded: {quota}: the limit of {allowed} in {region} is reached.",
    failures={
        "error": "InternalServerError: An internal execution error occurred.",
        "capacity": "AllocationFailed: The VM allocation failed: there is not enough capacity in the zone.",
        "throttle": "TooManyRequests: The request is being throttled",
    },
    quotas=facts.QUOTAS,
    suffix_digits=8,
    assumed={"subscriptionId": facts.SUBSCRIPTION},
    configured=_configured,
)
