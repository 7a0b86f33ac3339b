"""A small right site, and a way to see what is wrong with a changed one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from xds_agent.model import ModelError, load_site

HOSTS = {
    "control1": {"address": "10.0.0.10", "groups": ["control"]},
    "edge1": {
        "address": "10.0.1.11",
        "groups": ["aws", "ingress", "l4"],
        "cloud": "aws",
        "region": "us-east-1",
    },
    "edge2": {"address": "10.0.2.11", "groups": ["gcp", "ingress"], "cloud": "gcp", "tenants": ["retail"]},
    "backend1": {"address": "10.0.1.31", "groups": ["backends"], "cloud": "aws", "zone": "us-east-1a"},
    "backend2": {"address": "b2.example.com", "groups": ["backends"], "cloud": "gcp"},
    "bare": {"groups": ["unreachable"]},
}
CA = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
EDGE = {
    "tenants": [{"name": "retail"}, {"name": "bank"}],
    "certificates": [{"name": "shop"}, {"name": "edge"}],
    "authorities": [{"name": "partners", "certificate": CA}],
    "domains": [
        {"name": "shop.example.com", "tenant": "retail", "certificate": "shop"},
        {"name": "bank.example.com", "tenant": "bank", "certificate": "shop"},
    ],
    "services": [
        {
            "name": "shop",
            "tenant": "retail",
            "domains": ["shop.example.com"],
            "endpoints": [{"group": "backends", "port": 8080}],
        },
        {
            "name": "shop-v2",
            "tenant": "retail",
            "endpoints": [{"address": "10.9.9.9", "port": 80, "cloud": "azure"}],
        },
        {
            "name": "echo",
            "tenant": "retail",
            "protocol": "tcp",
            "listen": {"port": 7000},
            "endpoints": [{"group": "backends", "port": 7000}],
        },
        {
            "name": "grpc",
            "tenant": "retail",
            "protocol": "grpc",
            "endpoints": [{"group": "backends", "port": 50051}],
        },
    ],
    "routes": [
        {
            "name": "api",
            "domains": ["shop.example.com"],
            "prefix": "/api",
            "split": {"shop": 95, "shop-v2": 5},
        }
    ],
}


@pytest.fixture
def document() -> dict[str, Any]:
    """A site document that is right; tests change their own copy."""
    return copy.deepcopy({"schema": 1, "edge": EDGE, "hosts": HOSTS, "origins": {}})


@pytest.fixture
def put(document: dict[str, Any]) -> Callable[[str, Any], dict[str, Any]]:
    """put("services[shop].timeout", 5): the document with one value changed ("edge." is implied)."""

    def change(path: str, value: Any) -> dict[str, Any]:
        here: Any = document["edge"]
        steps = path.replace("]", "").replace("[", ".\0").split(".")
        # Names may hold dots: join what a bracket began.
        for at, step in enumerate(steps):
            last = at == len(steps) - 1
            if step.startswith("\0"):
                wanted = step[1:].replace("~", ".")
                index = next(
                    (i for i, one in enumerate(here) if isinstance(one, dict) and one.get("name") == wanted),
                    None,
                )
                index = int(wanted) if index is None else index
                if last:
                    here[index] = value
                else:
                    here = here[index]
            elif last:
                here[step] = value
            else:
                here = here.setdefault(step, {})
        return document

    return change


@pytest.fixture
def report() -> Callable[[dict[str, Any]], list[str]]:
    """Every problem of a document as shown to people."""

    def render(document: dict[str, Any]) -> list[str]:
        try:
            load_site(document)
        except ModelError as error:
            return [problem.render() for problem in error.problems]
        return []

    return render
