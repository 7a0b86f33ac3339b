"""JSON Schema of the inventory language, for editors."""

from typing import Any

from xds_agent.model.edge import Edge

SCHEMA_ID = "https://marchproxy.internal/schema/edge.schema.json"


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a file below edge/ or of edge.yml itself.

    Every file holds part of the whole, and a value may be a Jinja template; so the schema also takes a
    template text wherever a number, a truth value or a list is wanted.
    """
    schema = Edge.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA_ID
    schema["title"] = "MarchProxy edge"
    schema["properties"]["plugin"] = {
        "const": "marchproxy.edge.edge",
        "description": "In edge.yml only: the inventory plugin that reads it.",
    }
    templated: dict[str, Any] = _with_templates(schema)
    return templated


_TEMPLATE = {"type": "string", "pattern": r"\{\{.*\}\}"}


def _with_templates(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_templates(item) for item in node]
    if not isinstance(node, dict):
        return node
    new = {key: _with_templates(value) for key, value in node.items()}
    for kind in ("properties", "patternProperties"):
        if kind in new:
            new[kind] = {key: _or_template(value) for key, value in new[kind].items()}
    for key in ("additionalProperties", "items"):
        if isinstance(new.get(key), dict):
            new[key] = _or_template(new[key])
    return new


def _or_template(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema``, or a Jinja template in its place where a plain text would be refused."""
    about: dict[str, Any] = {
        key: schema[key] for key in ("description", "examples", "default", "title") if key in schema
    }
    bare = {key: value for key, value in schema.items() if key not in about}
    if bare.get("type") == "string" and "pattern" not in bare and "enum" not in bare:
        return schema
    return {**about, "anyOf": [*bare.get("anyOf", [bare]), _TEMPLATE]}
