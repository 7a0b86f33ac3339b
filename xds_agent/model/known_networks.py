"""Sources that clouds send health probes and metadata from: exempt from deny lists and limits.

As the clouds document them. What depends on the site (an AWS load balancer probes from its own subnets)
belongs under `protection.allow`.
"""

from __future__ import annotations

from collections.abc import Iterable

AS_OF = "2026-11-27"
_EVERYWHERE = ("169.254.169.254/32", "fd00:ec2::254/128")
_OF_CLOUD = {
    "gcp": ("35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22", "2600:2d00:1:b029::/64"),
    "azure": ("168.63.129.16/32", "fe80::1234:5678:9abc/128"),
}


def probe_networks(clouds: Iterable[str | None]) -> tuple[str, ...]:
    """Networks of the clouds named, sorted."""
    found = set(_EVERYWHERE)
    for cloud in clouds:
        found.update(_OF_CLOUD.get(cloud or "", ()))
    return tuple(sorted(found))
