"""A site of any size as its site document: services of five endpoints in three clouds, one certificate."""

from __future__ import annotations

from typing import Any

ENDPOINTS = 5
_CLOUDS = ("aws", "gcp", "azure")


def edge(services: int, *, checked: int | None = None) -> dict[str, Any]:
    """The `edge` of the document. All domains share a certificate: one chain, one route configuration. Of
    `checked` services (all by default) the endpoints are checked actively, of the others passively."""
    checked = services if checked is None else checked
    return {
        "certificates": [{"name": "all"}],
        "domains": [{"name": f"s{n}.example.com", "certificate": "all"} for n in range(services)],
        "services": [_service(n, checked=n < checked) for n in range(services)],
        "routes": [
            {"domains": [f"s{n}.example.com"], "prefix": "/api", "service": f"s{n}", "timeout": "3s"}
            for n in range(0, services, 2)
        ],
    }


def document(services: int, *, checked: int | None = None) -> dict[str, Any]:
    """The whole site document, with four proxies of one view and a control host."""
    hosts: dict[str, Any] = {"control1": {"address": "10.0.0.10", "groups": ["control"]}}
    for n in range(4):
        cloud = _CLOUDS[n % len(_CLOUDS)]
        hosts[f"edge{n}"] = {
            "address": f"10.0.1.{n + 1}", "groups": ["ingress"], "cloud": cloud, "region": "r1", "zone": "a",
        }  # fmt: skip
    return {"schema": 1, "edge": edge(services, checked=checked), "hosts": hosts, "origins": {}}


def _service(n: int, *, checked: bool) -> dict[str, Any]:
    health: dict[str, Any] = {"health": {"type": "http", "path": "/healthz", "interval": "5s"}}
    return {
        "name": f"s{n}",
        "domains": [f"s{n}.example.com"],
        "endpoints": [
            {
                "address": f"10.{n >> 8 & 255}.{n & 255}.{e + 1}", "port": 8080,
                "cloud": _CLOUDS[e % len(_CLOUDS)], "region": "r1", "zone": "a",
            }
            for e in range(ENDPOINTS)
        ],
        "steering": {"order": list(_CLOUDS)},
        "retries": 2,
        **(health if checked else {"ejection": {}}),
    }  # fmt: skip
