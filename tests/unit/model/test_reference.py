"""The reference and the JSON Schema are generated, current, and true."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from tests.support.site_inventory import ROOT
from xds_agent.model import Edge, json_schema, reference
from xds_agent.model.notes import LATER_KEYS
from xds_agent.model.reference import REFERENCE, SCHEMA, _annotation, _models, schema_text


def _all_models() -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = []
    _models(Edge, models)
    return models


FIELDS = [(model, key) for model in _all_models() for key in model.model_fields]


def test_the_files_are_current() -> None:
    """`python -m xds_agent.model.reference` writes both."""
    assert (ROOT / REFERENCE).read_text() == reference.reference()
    assert (ROOT / SCHEMA).read_text() == schema_text()


@pytest.mark.parametrize(("model", "key"), FIELDS, ids=[f"{m.__name__}.{k}" for m, k in FIELDS])
def test_every_field_has_a_description_and_examples_that_are_right(model: type[BaseModel], key: str) -> None:
    field = model.model_fields[key]
    assert field.description
    assert field.examples
    adapter = TypeAdapter[Any](_annotation(model, key))
    for example in field.examples:
        if "{{" not in str(example):
            adapter.validate_python(example)


def test_every_key_marked_later_exists() -> None:
    assert {f"{model.__name__}.{key}" for model, key in FIELDS} >= LATER_KEYS


@pytest.mark.parametrize("site", ["lab", "example"])
def test_the_schema_takes_the_sites_of_the_repository(site: str) -> None:
    """Each file on its own, as an editor sees it, templates and all."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    folder = ROOT / "inventories" / site
    files = [folder / "edge.yml", *sorted((folder / "edge").rglob("*.yml"))]
    assert len(files) >= 4
    for path in files:
        document = yaml.safe_load(path.read_text())
        if "overlays" in path.parts:
            continue
        assert [error.message for error in validator.iter_errors(document)] == [], path
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        target = (path.parent / first.partition("=")[2]).resolve()
        assert target == ROOT / SCHEMA


@pytest.mark.parametrize(
    "wrong",
    [
        {"servces": []},
        {"services": [{"name": "x", "protocol": "htttp"}]},
        {"services": [{"name": "x", "timeout": "soon"}]},
        {"services": [{"endpoints": []}]},
        {"ports": {"https": 70000}},
        {"plugin": "other"},
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(wrong), json.dumps(wrong)
