"""Retries: another backend, then another cloud, within the cluster's retry budget."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from xds_agent.compile.encoding import duration, packed

# Draws to leave the hosts that were tried: a place with 96 % of the weight and nobody alive in it is drawn
# again and again, and 10 draws lost one request in a thousand (`script/bench failover`).
_HOST_ATTEMPTS = 100


@lru_cache(maxsize=1024)
def retry_policy(retries: int, retry_on: tuple[str, ...], per_try: timedelta | None) -> Any:
    """Retry policy; shared by callers, who copy it."""
    policy = route_components_pb2.RetryPolicy(
        retry_on=",".join(sorted(set(retry_on))), host_selection_retry_max_attempts=_HOST_ATTEMPTS
    )
    policy.num_retries.value = retries
    if per_try is not None:
        policy.per_try_timeout.CopyFrom(duration(per_try))
    hosts = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
    hosts.typed_config.CopyFrom(packed(previous_hosts_pb2.PreviousHostsPredicate()))
    # Every try leaves out the priorities tried before: a dead cloud costs one try, not all of them.
    policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
    policy.retry_priority.typed_config.CopyFrom(
        packed(previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=1))
    )
    return policy
