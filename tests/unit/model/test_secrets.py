"""Secrets leave the document before it is stored, come back whole, and are never shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from xds_agent.model import Edge, ModelError, join_secrets, load_site, split_secrets
from xds_agent.model.reference import _annotation, _inner_models
from xds_agent.model.secrets import _SECRET_FIELDS

KEY = "-----BEGIN PRIVATE KEY-----\nplanted-8d1f\n-----END PRIVATE KEY-----\n"
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


@pytest.fixture
def secretive(document: dict[str, Any]) -> dict[str, Any]:
    document["edge"]["certificates"].append(
        {"name": "own", "source": "pem", "certificate": PEM, "private_key": KEY}
    )
    document["edge"]["services"][0]["auth"] = {
        "type": "token",
        "tokens": {"a": "planted-a", "b": "planted-b"},
    }
    document["edge"]["services"][0]["description"] = "planted-description"
    document["secret_paths"] = ["edge.services[shop].description"]
    return document


def test_split_and_join_are_each_others_inverse(secretive: dict[str, Any]) -> None:
    before = json.dumps(secretive)
    stripped, secrets = split_secrets(secretive)
    assert json.dumps(secretive) == before
    assert "planted" not in json.dumps(stripped)
    assert stripped["edge"]["certificates"][2]["private_key"] == {
        "$secret": "edge.certificates[own].private_key"
    }
    assert secrets == {
        "edge.certificates[own].private_key": KEY,
        "edge.services[shop].auth.tokens.a": "planted-a",
        "edge.services[shop].auth.tokens.b": "planted-b",
        "edge.services[shop].description": "planted-description",
    }
    assert join_secrets(stripped, secrets) == secretive
    assert split_secrets(stripped) == (stripped, {})


def test_a_lost_secret_is_not_made_up(secretive: dict[str, Any]) -> None:
    stripped, secrets = split_secrets(secretive)
    del secrets["edge.services[shop].auth.tokens.b"]
    with pytest.raises(KeyError, match=r"tokens\.b"):
        join_secrets(stripped, secrets)


def test_items_of_one_name_keep_their_own_secrets(secretive: dict[str, Any]) -> None:
    """A duplicate is refused by load_site, but must not mix keys up on the way there."""
    secretive["edge"]["certificates"].append(
        {"name": "own", "source": "pem", "certificate": PEM, "private_key": "planted-2"}
    )
    stripped, secrets = split_secrets(secretive)
    assert join_secrets(stripped, secrets) == secretive
    assert {KEY, "planted-2"} <= set(secrets.values())


def test_nothing_that_is_printed_shows_them(secretive: dict[str, Any]) -> None:
    site = load_site(secretive)
    assert site.secret_paths == {"edge.services[shop].description"}
    for text in (
        repr(site),
        str(site.edge),
        site.edge.model_dump_json(),
        "\n".join(n.render() for n in site.not_acted_on),
    ):
        assert KEY not in text
        assert "planted-a" not in text
        assert "BEGIN PRIVATE" not in text


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("certificates", "private_key", ["planted-list"]),
        ("certificates", "privat_key", "planted-unknown-key"),
        ("services", "auth", "planted-whole"),
        ("services", "auth", {"type": "token", "tokens": ["planted-token"]}),
        ("services", "description", {"a": "planted-dict"}),
        ("services", "tenant", "planted-tenant"),
    ],
)
def test_no_error_shows_them(secretive: dict[str, Any], section: str, key: str, value: Any) -> None:
    name = "shop" if section == "services" else "own"
    item = next(one for one in secretive["edge"][section] if one["name"] == name)
    item[key] = value
    secretive["secret_paths"] = [f"edge.{section}[{name}].{key}"]
    with pytest.raises(ModelError) as caught:
        load_site(secretive)
    assert "planted" not in str(caught.value)
    assert "planted" not in repr(caught.value.problems)


def _secret_places(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key in model.model_fields:
        annotation = _annotation(model, key)
        text = str(annotation)
        many = "tuple[" in text or "dict[" in text
        if SecretStr.__name__ in text:
            yield (*path, key, "*") if many else (*path, key)
        for inner in _inner_models(annotation):
            yield from _secret_places(inner, (*path, key, "*") if many else (*path, key))


def test_every_secret_field_of_the_model_is_split_off() -> None:
    assert set(_secret_places(Edge, ())) == set(_SECRET_FIELDS)
