"""The policy pack as the engine runs it, and the programs under it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

import grpc
from edge_policy.network import public_control_stack
from edge_policy.pack import RULES
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from tests.unit.pulumi.support.graph import graph_of_sites
from tests.unit.pulumi.support.policies import LETS, REFUSES

ROOT = Path(__file__).parents[4]
ANSWER_S = 60


@pytest.mark.parametrize("name", ["lab", "example"])
def test_what_the_programs_make_passes_every_rule(name: str) -> None:
    graph = graph_of_sites(name)
    found = [
        f"{node.name} {sentence}"
        for node in graph.nodes
        for _, rule in RULES.values()
        for sentence in rule(node.type, node.inputs)
    ]
    assert found == []
    stack = [(node.type, node.name, {"id": f"{node.name}-id", **node.inputs}) for node in graph.nodes]
    assert list(public_control_stack(stack)) == []


@pytest.fixture(scope="module")
def analyzer() -> Iterator[Any]:
    """The pack, started as Pulumi's language host starts it."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", str(ROOT / "pulumi/policy")],
        stdout=subprocess.PIPE,
        cwd=ROOT / "pulumi/policy",
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        process.kill()
        process.wait()


def violations(analyzer: Any, kind: str, props: dict[str, Any]) -> list[tuple[str, int]]:
    """(policy, enforcement level) of what the pack says about a resource."""
    struct = struct_pb2.Struct()
    struct.update(props)
    urn = f"urn:pulumi:s::edge::{kind}::one"
    request = analyzer_pb2.AnalyzeRequest(type=kind, name="one", urn=urn, properties=struct)
    answer = analyzer.Analyze(request, timeout=ANSWER_S)
    return [(one.policyName, one.enforcementLevel) for one in answer.diagnostics]


def test_the_pack_says_over_the_wire_what_its_rules_say(analyzer: Any) -> None:
    # Over the wire, lists and mappings are of Pulumi's own making, and a rule must read those too.
    names = {rule: name for name, (_, rule) in RULES.items()}
    for rule, kind, props, _ in REFUSES:
        assert (names[rule], analyzer_pb2.MANDATORY) in violations(analyzer, kind, props), (kind, props)
    for rule, kind, props in LETS:
        assert names[rule] not in dict(violations(analyzer, kind, props)), (kind, props)


def test_every_rule_is_in_the_pack(analyzer: Any) -> None:
    info = analyzer.GetAnalyzerInfo(empty_pb2.Empty(), timeout=ANSWER_S)
    assert {one.name for one in info.policies} == {*RULES, "private-control-addresses"}
