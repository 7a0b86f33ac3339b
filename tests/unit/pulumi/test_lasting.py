"""What outlives its host, and who takes up what is given at the first boot: said before anything is made."""

from __future__ import annotations

import pytest
from edge_iac.forgotten import forgotten, released
from edge_iac.moved import moved, with_moves
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
    gone = gone.replace("dns: {provider: aws", "dns: {provider: gcp")
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
    assert f"{SECOND}: takes image, logins, host key, type and disk as they are now" in said_of(
        other, renewed
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("addresses: {edge-gcp-us-central1-1: kept}", "us-east-1 has no address"),
        ("addresses: {vip-eastus: released}", "us-east-1 has no address"),
        ("addresses: {control-aws-us-east-1-1: kept}", "has no public address"),
        ("addresses: {vip-us-east-1-9: kept}", "us-east-1 has no address"),
        ("renew: [edge-aws-us-east-1-3]", "us-east-1 has no host 'edge-aws-us-east-1-3'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(line: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        plan_of(with_line(TEXT, line))
    assert words in "\n".join(problem.render() for problem in caught.value.problems)


def urn(cloud: str, kind: str, name: str) -> str:
    return f"urn:pulumi:lab::edge::edge:{cloud}:{kind}$some:type:Type::{name}"


HELD = [
    urn("aws", "Addresses", "edge-aws-us-east-1-1"),
    urn("aws", "Addresses", SECOND),
    urn("aws", "Addresses", "vip-us-east-1-1"),
    urn("aws", "Network", "us-east-1-nat-inner-1"),
    urn("azure", "Place", "eastus"),
    urn("azure", "Place", "eastus-kept"),
    urn("azure", "Addresses", "edge-azure-eastus-1"),
]


def test_what_is_protected_and_not_named_any_more_is_refused_before_the_engine_begins() -> None:
    """The engine would take the host first; with `released` or `leaving` once applied, nobody objects."""
    assert forgotten(plan_of(TEXT), HELD, {}) == []
    fewer = TEXT.replace(POOL, "edge: {role: ingress}", 1)
    (said,) = forgotten(plan_of(fewer), HELD, {})
    assert said.startswith(SECOND) and f"{{{SECOND}: kept}}" in said and said.endswith("regions.us-east-1")
    for line in ("kept", "released"):
        assert forgotten(plan_of(with_line(fewer, f"addresses: {{{SECOND}: {line}}}")), HELD, {}) == []
    free = released(plan_of(with_line(fewer, f"addresses: {{{SECOND}: released}}")))
    assert free == [SECOND]
    assert forgotten(plan_of(fewer), HELD, {"edge_released": free}) == []


def test_a_zone_less_says_what_becomes_of_the_balancers_address_there() -> None:
    """What the refusal tells to write is taken, although the site names no such zone any more."""
    left = "vip-us-east-1-4"
    (said,) = forgotten(plan_of(TEXT), [*HELD, urn("aws", "Addresses", left)], {})
    assert f"{{{left}: released}}" in said
    assert released(plan_of(with_line(TEXT, f"addresses: {{{left}: released}}"))) == [left]


def test_a_region_that_is_taken_out_without_leaving_is_refused_as_a_whole() -> None:
    at, end = TEXT.index("  azure:\n"), TEXT.index("reach:\n")
    without = TEXT[:at] + TEXT[end:]
    (said,) = forgotten(plan_of(without), HELD, {})
    assert said.startswith("clouds.azure.regions.eastus is not in the site file")
    assert "eastus-kept, edge-azure-eastus-1" in said and "leaving: true" in said
    leaving = TEXT.replace("      eastus:\n", "      eastus:\n        leaving: true\n", 1)
    free = released(plan_of(leaving))
    assert {"eastus-kept", "edge-azure-eastus-1", "vip-eastus"} == set(free)
    assert forgotten(plan_of(without), HELD, {"edge_released": free}) == []


def test_a_network_of_azure_moves_from_under_no_host() -> None:
    """Azure refuses it in the middle of `up`; AWS and Google Cloud make everything in it anew."""
    of = "urn:pulumi:lab::edge::edge:azure:{}$azure-native:network:{}::{}"
    network = of.format("Network", "VirtualNetwork", "eastus")
    card = of.format("Hosts", "NetworkInterface", "edge-azure-eastus-1")
    held = {network: {"outputs": {"addressSpace": {"addressPrefixes": ["10.203.0.0/22"]}}}}
    other = plan_of(TEXT.replace("10.203.0.0/22", "10.213.0.0/22"))
    assert moved(plan_of(TEXT), {**held, card: {}}) == []
    assert moved(other, held) == []
    assert [one.cloud for one in with_moves(other, held).regions if one.moves] == ["azure"]
    assert with_moves(plan_of(TEXT), held) == plan_of(TEXT)
    held[network]["outputs"]["addressSpace"]["addressPrefixes"].append("10.213.0.0/22")
    assert with_moves(other, held) == other, "a range that somebody added is taken off in place"
    del held[network]["outputs"]["addressSpace"]["addressPrefixes"][1]
    (said,) = moved(other, {**held, card: {}})
    assert said.startswith("clouds.azure.regions.eastus.network: 10.203.0.0/22 becomes 10.213.0.0/22")
    shown = [one for one in changes(plan_of(TEXT), other) if "becomes 10.213" in one]
    assert len(shown) == 1 and "`pulumi up` refuses it" in shown[0]
