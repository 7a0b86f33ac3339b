"""The graph each cloud's program registers: a change of behaviour is a visible diff.

Regenerate: UPDATE_GOLDEN=1 pulumi/.venv/bin/python -m pytest tests/unit/pulumi/programs/test_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from tests.unit.pulumi.support.graph import Graph, Node, graph_of_sites

GOLDEN = Path(__file__).parents[1] / "golden"


def shown(node: Node) -> dict[str, Any]:
    """A node as the golden file has it: what is usual is left out."""
    text: dict[str, Any] = {
        "parent": node.parent,
        "provider": node.provider,
        "inputs": _plain(node.inputs, node.secrets),
    }
    if node.depends_on:
        text["after"] = list(node.depends_on)
    if node.protect or node.retain:
        text["kept"] = {"protect": node.protect, "retain": node.retain}
    if node.ignore_changes:
        text["ignores"] = list(node.ignore_changes)
    if node.delete_before_replace:
        text["delete_before_replace"] = True
    return text


def _plain(inputs: dict[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    return {key: "(secret)" if key in secrets else value for key, value in sorted(inputs.items())}


def document(graph: Graph, cloud: str) -> str:
    tokens = {
        "aws": ("aws:", "edge:aws", "pulumi:providers:aws"),
        "gcp": ("gcp:", "edge:gcp", "pulumi:providers:gcp"),
    }
    wanted = tokens.get(cloud, ("azure-native:", "edge:azure", "pulumi:providers:azure-native"))
    nodes = {f"{node.type} {node.name}": shown(node) for node in graph.nodes if node.type.startswith(wanted)}
    return yaml.safe_dump(nodes, sort_keys=True, width=110)


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
@pytest.mark.parametrize("name", ["lab", "example"])
def test_the_graph_is_the_golden_one(name: str, cloud: str) -> None:
    path = GOLDEN / f"{name}-{cloud}.yml"
    text = document(graph_of_sites(name), cloud)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"if it is meant: UPDATE_GOLDEN=1, then read the diff of {path}"
    )
