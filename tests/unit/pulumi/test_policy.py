"""Every rule of the policy pack, both ways: what it lets pass, and what it refuses with which words."""

from __future__ import annotations

from typing import Any

import pytest
from edge_policy.network import public_control_stack

from tests.unit.pulumi.support.policies import INSTANCE, LETS, REFUSES


@pytest.mark.parametrize(("rule", "kind", "props"), LETS)
def test_what_is_right_passes(rule: Any, kind: str, props: dict[str, Any]) -> None:
    assert list(rule(kind, props)) == []


@pytest.mark.parametrize(("rule", "kind", "props", "words"), REFUSES)
def test_what_is_wrong_is_refused(rule: Any, kind: str, props: dict[str, Any], words: str) -> None:
    said = list(rule(kind, props))
    assert len(said) == 1
    assert words in said[0]


def test_an_elastic_address_on_a_control_host_is_found_across_the_stack() -> None:
    kind = "aws:ec2/eipAssociation:EipAssociation"
    stack = [
        (INSTANCE, "control-1", {"id": "i-1", "tags": {"edge-role": "control"}}),
        (INSTANCE, "edge-1", {"id": "i-2", "tags": {"edge-role": "ingress"}}),
        (kind, "edge-1", {"instanceId": "i-2"}),
    ]
    assert list(public_control_stack(stack)) == []
    ((name, _),) = public_control_stack([*stack, (kind, "oops", {"instanceId": "i-1"})])
    assert name == "oops"
