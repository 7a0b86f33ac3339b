"""JSON Schema of site files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_iac.site.model import Site

SCHEMA_ID = "https://marchproxy.internal/schema/site.schema.json"
SCHEMA_FILE = Path(__file__).parents[2] / "schema" / "site.schema.json"


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of pulumi/sites/NAME.yaml."""
    schema = Site.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = SCHEMA_ID
    schema["title"] = "A site of MarchProxy"
    return schema
