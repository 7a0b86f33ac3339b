"""Where node.yml and serve.yml say that a control host is."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

TEMPLATES = Path(__file__).parents[3] / "roles" / "xds_agent" / "templates"


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({"address": "10.65.0.10", "ansible_host": "bastion"}, "10.65.0.10:18000"),
        ({"address": "2001:db8::10"}, "[2001:db8::10]:18000"),
        ({"address": "[2001:db8::10]"}, "[2001:db8::10]:18000"),
        ({"ansible_host": "control1.example.com"}, "control1.example.com:18000"),
        ({}, "control1:18000"),
    ],
)
def test_an_ipv6_address_stands_in_brackets(facts, place):
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True)
    template = environment.from_string(
        "{% from 'control_address.j2' import of %}{{ of(facts, 'control1', 18000) }}"
    )
    assert template.render(facts=facts) == place
