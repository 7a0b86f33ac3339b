"""Which image hosts are given: those that are there keep theirs, and nothing is asked for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")

from edge_iac.booted import booted
from edge_iac.plan import plan_site
from edge_iac.program import make
from edge_iac.site import parse_site
from pulumi.runtime import MockCallArgs

import pulumi
from tests.unit.pulumi.support.answers import Answers
from tests.unit.pulumi.support.graph import AUTHORITY, run_program

LAB = Path(__file__).parents[4] / "pulumi/sites/lab.yaml"


class Withdrawn(Answers):
    """A cloud whose pinned image is no more, and who asked for it where."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        if args.token == "aws:ec2/getAmi:getAmi":
            self.asked.append(args.provider.rpartition("::")[0].rpartition("::")[2])
        return super().call(args)


@pytest.mark.parametrize(
    ("new", "asked"),
    [("", []), ("edge-aws-us-east-1-2", ["aws-us-east-1"]), ("edge-aws-us-east-1-1", ["aws-us-east-1"])],
)
def test_the_pinned_image_is_looked_up_only_for_hosts_that_boot_from_it(new: str, asked: list[str]) -> None:
    """Of a site whose hosts are there, a withdrawn image stops no `up`; one is named under renew."""
    line = "      us-east-1:\n"
    renewed = f"{line}        renew: [edge-aws-us-east-1-1]\n" if new.endswith("1-1") else line
    site = parse_site(LAB.read_text().replace(line, renewed), shown="l", stem="lab")
    plan = plan_site(site)
    state = {
        f"urn:pulumi:lab::edge::edge:aws:Hosts$aws:ec2/instance:Instance::{host.name}": {
            "outputs": {"ami": "ami-old"}
        }
        for region in plan.regions
        for host in region.hosts
        if host.name != new or host.renew
    }
    answers = Withdrawn()
    made = run_program(
        lambda: make(plan, authority=pulumi.Output.secret(AUTHORITY), booted_from=booted(state)),
        stack="lab",
        answers=answers,
    )
    assert answers.asked == asked
    images = {node.name: node.inputs["ami"] for node in made.of("ec2/instance:Instance")
              if node.type.startswith("aws:")}  # fmt: skip
    assert {name for name, image in images.items() if image != "ami-old"} == ({new} if new else set())
