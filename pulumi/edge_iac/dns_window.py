"""How long the loss of an ingress region is felt by clients that found it through DNS."""

from __future__ import annotations

from dataclasses import dataclass

from edge_iac.site.model import Dns


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a cloud's DNS asks after an address."""

    interval_s: int
    failures: int

    @property
    def detection_s(self) -> int:
        """Until an address that answers nobody is taken out, at the latest."""
        return self.interval_s * (self.failures + 1)


CHECKS = {
    "aws": HealthCheck(interval_s=10, failures=3),
    "gcp": HealthCheck(interval_s=30, failures=2),
    "azure": HealthCheck(interval_s=10, failures=2),
}
"""The quickest each offers (Route 53 and Traffic Manager charge for it)."""


def window_s(dns: Dns) -> int:
    """Seconds from the loss of a region until no resolver that keeps to the TTL sends anybody there."""
    return CHECKS[dns.provider].detection_s + round(dns.ttl.total_seconds())
