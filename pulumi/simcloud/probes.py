"""Health checks of balancers, as the clouds hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from simcloud.values import first
from simcloud.world import Record

# One address of those that the clouds' probes come from.
GCP_PROBES, AZURE_PROBES = "35.191.0.9", "168.63.129.16"
# What AWS waits for an answer where nothing is said.
_AWS_HTTP_S, _AWS_TCP_S = 6, 10


@dataclass(frozen=True)
class Probe:
    """A balancer's health check of each machine behind it."""

    source: str
    port: int
    path: str
    """Asked over HTTP; of no meaning over TCP."""
    interval_s: int
    unhealthy_after: int
    """Answers that are missing, one after the other."""
    protocol: Literal["http", "tcp"] = "http"
    """Of tcp a connection is enough, and of what is encrypted too."""
    healthy_after: int = 1
    timeout_s: int = 1
    accepts: tuple[int, int] = (200, 200)
    """First and last status of HTTP that is well."""


def aws_probe(group: Record, *, source: str, traffic_port: int) -> Probe:
    """That of a target group, which comes from the balancer's own address in a zone."""
    said: dict[str, Any] = group.inputs.get("healthCheck") or {}
    is_http = said.get("protocol", "TCP") == "HTTP"
    port = str(said.get("port", "traffic-port"))
    return Probe(
        source=source,
        port=traffic_port if port == "traffic-port" else int(port),
        path=str(said.get("path", "/")),
        interval_s=int(said.get("interval", 30)),
        unhealthy_after=int(said.get("unhealthyThreshold", 3)),
        protocol="http" if is_http else "tcp",
        healthy_after=int(said.get("healthyThreshold", 3)),
        timeout_s=int(said.get("timeout", _AWS_HTTP_S if is_http else _AWS_TCP_S)),
        accepts=(200, 399),
    )


def gcp_probe(check: Record) -> Probe:
    said = check.inputs
    http = said.get("httpHealthCheck")
    return Probe(
        source=GCP_PROBES,
        port=int(first(said, "httpHealthCheck.port" if http else "tcpHealthCheck.port", 80)),
        path=str(first(said, "httpHealthCheck.requestPath", "/")),
        interval_s=int(said.get("checkIntervalSec", 5)),
        unhealthy_after=int(said.get("unhealthyThreshold", 2)),
        protocol="http" if http else "tcp",
        healthy_after=int(said.get("healthyThreshold", 2)),
        timeout_s=int(said.get("timeoutSec", 5)),
    )


def azure_probe(balancer: Record, name: str | None = None) -> Probe | None:
    """The balancer's probe called ``name``, or its first; None where it has none."""
    for said in balancer.inputs.get("probes") or []:
        if name not in (None, said.get("name")):
            continue
        # Azure counts both ways with one threshold, and waits no longer than until the next question.
        interval, threshold = int(said.get("intervalInSeconds", 15)), int(said.get("probeThreshold", 1))
        return Probe(
            source=AZURE_PROBES,
            port=int(said["port"]),
            path=str(said.get("requestPath", "/")),
            interval_s=interval,
            unhealthy_after=threshold,
            protocol="http" if said.get("protocol") == "Http" else "tcp",
            healthy_after=threshold,
            timeout_s=interval,
        )
    return None
