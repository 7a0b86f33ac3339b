"""Documents no person would write: refused in words, never with a traceback."""

from __future__ import annotations

import copy

import pytest

from tests.support.small_site import DOCUMENT
from xds_agent.model import ModelError, load_site

MALFORMED = [None, 2, False, "x", [1], [[]], {"a": 1}, float("nan"), "\ud800", "x\0y"]
SERVICE_KEYS = [
    "name", "domains", "endpoints", "timeout", "idle_timeout", "health", "steering", "rate_limit",
    "bandwidth", "auth", "listen", "upstream_tls", "limits", "ejection",
]  # fmt: skip


def said(document):
    """Rendered problems; empty when the document is right."""
    try:
        load_site(document)
    except ModelError as error:
        return [problem.render() for problem in error.problems]
    return []


def changed(path, value):
    document = copy.deepcopy(DOCUMENT)
    here = document
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return document


@pytest.mark.parametrize("key", ["schema", "edge", "hosts", "origins", "secret_paths", "problems"])
@pytest.mark.parametrize("value", MALFORMED, ids=ascii)
def test_a_malformed_frame_is_said(key, value):
    if not value and key in ("origins", "secret_paths", "problems"):
        assert said(changed([key], value)) == []
    else:
        assert said(changed([key], value))


@pytest.mark.parametrize("key", SERVICE_KEYS)
@pytest.mark.parametrize("value", [1.5, "\ud800", [[]], {"a": {"b": {}}}], ids=ascii)
def test_a_malformed_service_is_said(key, value):
    texts = said(changed(["edge", "services", 0, key], value))
    assert any("services[" in text for text in texts)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("timeout", "99999999999999999999999d", "longer than ten years"),
        ("bandwidth", {"egress": "9" * 400 + "tbit"}, "any link"),
        ("endpoints", [{"address": "10.0.0.1", "port": n, "weight": 10**6} for n in range(1, 4296)],
         "weighs 4295000000"),
    ],
)  # fmt: skip
def test_numbers_beyond_what_envoy_holds_are_said(key, value, words):
    [text] = said(changed(["edge", "services", 0, key], value))
    assert words in text


def test_more_clouds_in_order_than_envoy_has_priorities_are_said():
    document = copy.deepcopy(DOCUMENT)
    clouds = [f"c{n}" for n in range(129)]
    endpoints = [{"address": "10.0.0.1", "port": 1 + n, "cloud": cloud} for n, cloud in enumerate(clouds)]
    document["edge"]["services"][0] |= {
        "endpoints": endpoints,
        "steering": {"mode": "active-passive", "order": clouds},
    }
    [text] = said(document)
    assert "129 clouds" in text


def test_one_domain_in_two_spellings_is_there_twice():
    """Else the policy of the last one would silently be that of both."""
    document = copy.deepcopy(DOCUMENT)
    document["edge"]["domains"].append(
        {"name": "SHOP.example.com", "tenant": "retail", "certificate": "shop", "client_auth": "none"}
    )
    assert said(document) == [
        "domains[SHOP.example.com]: 'shop.example.com' is there twice; rename or remove one"
    ]


def test_a_document_that_holds_itself_is_refused():
    document = copy.deepcopy(DOCUMENT)
    service = document["edge"]["services"][0]
    service["auth"] = service
    assert any("services[shop].auth" in text for text in said(document))
