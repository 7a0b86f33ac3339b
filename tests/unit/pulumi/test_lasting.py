"""What outlives its host, and who takes up what is given at the first boot: said before anything is made."""

from __future__ import annotations

import pytest
from edge_iac.plan import Plan, plan_site
from edge_iac.plan.changes import changes
from edge_iac.plan.cost import costs_of
from edge_iac.site import parse_site
from edge_iac.site.load import SITES

from xds_agent.model.problems import ModelError

TEXT = (SITES / "lab.yaml").read_text()
REGION, POOL = "      us-east-1:\n", "edge: {role: ingress, count: 2}"
SECOND = "edge-aws-us-east-1-2"


def plan_of(text: str) -> Plan:
    return plan_site(parse_site(text, shown="lab.yaml", stem="lab"))


def said_of(before: str, after: str) -> str:
    return "\n".join(changes(plan_of(before), plan_of(after)))


def with_line(text: str, line: str) -> str:
    assert text.count(REGION) == 1
    return text.replace(REGION, f"{REGION}        {line}\n")


def test_a_host_less_says_what_becomes_of_its_address() -> None:
    assert POOL in TEXT
    fewer = TEXT.replace(POOL, "edge: {role: ingress}", 1)
    assert f"{SECOND}: its address is protected, and `pulumi up` fails" in said_of(TEXT, fewer)
    kept = with_line(fewer, f"addresses: {{{SECOND}: kept}}")
    assert f"{SECOND}: its address waits for a host of that name" in said_of(TEXT, kept)
    released = with_line(fewer, f"addresses: {{{SECOND}: released}}")
    assert f"{SECOND}: its address loses its protection" in said_of(TEXT, released)
    assert f"{SECOND}: its address is given back to the cloud" in said_of(released, fewer)
    assert said_of(kept, with_line(TEXT, f"addresses: {{{SECOND}: kept}}")).startswith(
        f"aws us-east-1: + {SECOND}"
    )
    counts = {one.what: one.count for one in costs_of(plan_of(kept)) if one.region == "us-east-1"}
    fewer_counts = {one.what: one.count for one in costs_of(plan_of(fewer)) if one.region == "us-east-1"}
    assert counts["public addresses"] == fewer_counts["public addresses"] + 1, "it is on the bill"


def test_a_region_less_says_that_it_has_to_leave_first() -> None:
    before, _, after = TEXT.partition("      us-east-1:\n")
    gone = before.replace("regions:", "regions:", 1) + after[after.index("  gcp:") :]
    gone = gone.replace('  aws:\n    account: "000000000000"\n    regions:\n', "")
    gone = gone.replace("        hosts:\n", "        hosts:\n          control: {role: control}\n", 1)
    assert "addresses are protected, and `pulumi up` fails: say leaving: true" in said_of(TEXT, gone)
    leaving = with_line(TEXT, "leaving: true")
    assert "what outlives hosts loses its protection" in said_of(TEXT, leaving)
    assert "protected" not in said_of(leaving, gone)


def test_another_image_is_for_those_that_are_renewed() -> None:
    other = with_line(TEXT, "image: ami-0123456789abcdef0")
    said = said_of(TEXT, other)
    assert "another image (ami-0123456789abcdef0), for new hosts and those named under renew" in said
    assert "it is replaced" not in said
    renewed = with_line(other, f"renew: [{SECOND}]")
    assert f"{SECOND}: takes image, logins and host key as they are now" in said_of(other, renewed)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("addresses: {edge-gcp-us-central1-1: kept}", "us-east-1 has no address"),
        ("addresses: {vip-eastus: released}", "us-east-1 has no address"),
        ("renew: [edge-aws-us-east-1-3]", "us-east-1 has no host 'edge-aws-us-east-1-3'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(line: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        plan_of(with_line(TEXT, line))
    assert words in "\n".join(problem.render() for problem in caught.value.problems)
