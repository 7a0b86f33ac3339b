"""What a site becomes: networks that fit, hosts spread over zones, one matrix of who reaches what."""

from __future__ import annotations

import ipaddress
from itertools import combinations

import pytest
import yaml
from edge_iac.catalogue import prices
from edge_iac.catalogue.images import AWS_NAME, AZURE_URN, GCP_LINK, unpinned
from edge_iac.catalogue.regions import ZONES
from edge_iac.catalogue.sizes import SIZES, TYPES, offered
from edge_iac.latency import aws_regions_for
from edge_iac.plan import Networks, Plan, plan_site
from edge_iac.plan.changes import changes
from edge_iac.plan.cost import costs_of, total_usd
from edge_iac.plan.prices import clouds_section
from edge_iac.plan.quotas import AWS_RULES_PER_GROUP, rules_in_aws
from edge_iac.site import load_site, parse_site
from edge_iac.site.front import GCP_PORTS_PER_RULE, FrontPort, forwarding_rules
from edge_iac.site.load import SITES
from edge_iac.site.names import LONGEST_OWN_RULE, OWN_RULES
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pulumi.support.sites import sites
from xds_agent.model import Edge
from xds_agent.model.problems import ModelError
from xds_agent.steering.regions import REGIONS


def edited(name: str, **replaced: tuple[str, str]) -> Plan:
    """The plan of a site that comes along, with texts of its file replaced."""
    text = (SITES / f"{name}.yaml").read_text()
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, new, 1)
    return plan_site(parse_site(text, shown=f"{name}.yaml", stem=name))


@given(site=sites())
@settings(max_examples=60)
def test_subnets_lie_within_their_network_and_apart(site: str) -> None:
    plan = plan_site(parse_site(site, shown="s.yaml", stem="random"))
    for region in plan.regions:
        network = ipaddress.ip_network(region.network)
        subnets = [ipaddress.ip_network(subnet.cidr) for subnet in region.subnets]
        assert all(subnet.subnet_of(network) for subnet in subnets)
        assert not any(one.overlaps(other) for one, other in combinations(subnets, 2))


@given(site=sites())
@settings(max_examples=60)
def test_hosts_are_spread_over_zones_and_stand_in_a_subnet_of_theirs(site: str) -> None:
    plan = plan_site(parse_site(site, shown="s.yaml", stem="random"))
    names = [host.name for region in plan.regions for host in region.hosts]
    assert len(set(names)) == len(names)
    for region in plan.regions:
        for pool in {host.pool for host in region.hosts}:
            zones = [host.zone for host in region.hosts if host.pool == pool]
            counts = [zones.count(zone) for zone in region.zones]
            assert max(counts) - min(counts) <= 1
        for host in region.hosts:
            subnet = next(one for one in region.subnets if one.name == host.subnet)
            assert (subnet.tier == "outer") == host.public
            assert subnet.zone in ("", host.zone)


@given(site=sites())
@settings(max_examples=60)
def test_no_rule_of_its_own_has_a_longer_name_than_is_checked(site: str) -> None:
    plan = plan_site(parse_site(site, shown="s.yaml", stem="random"))
    own = [rule.name for region in plan.regions for rule in region.rules if not rule.name.startswith("rule")]
    assert max(map(len, own)) <= len(LONGEST_OWN_RULE)
    assert {name for name in own if not name.startswith(tuple(f"{one}-" for one in OWN_RULES))} == set()


def test_what_is_open_to_everybody_goes_through_the_balancer_however_it_is_written() -> None:
    written = ('    ports: ["7000"]', '    ports: ["7000", "9000-9002"]')
    said = edited("lab", ports=written, sources=("    sources: [internet]", '    sources: ["0.0.0.0/0"]'))
    for region in said.regions:
        assert [port for _, port in region.front_ports] == [80, 443, 8080, 7000, 9000, 9001, 9002]


def test_a_host_more_moves_no_other_host() -> None:
    before = edited("lab")
    after = edited("lab", count=("edge: {role: ingress, count: 2}", "edge: {role: ingress, count: 3}"))
    old = {host.name: host for region in before.regions for host in region.hosts}
    new = {host.name: host for region in after.regions for host in region.hosts}
    assert {name: new[name] for name in old} == old
    assert new.keys() - old.keys() == {"edge-aws-us-east-1-3"}


def test_another_region_is_known_by_its_ranges() -> None:
    aws = next(region for region in plan_site(load_site("lab")).regions if region.cloud == "aws")
    far = next(rule for rule in aws.rules if rule.name == "xds-control-far")
    assert far.source == Networks(4, ("10.202.0.0/23", "10.203.0.0/23"))
    assert far.ports == ((18000, 18000),)


def many_regions(count: int) -> str:
    """The example's first region as often as asked, each in AWS."""
    site = yaml.safe_load((SITES / "example.yaml").read_text())
    site["clouds"] = {"aws": site["clouds"]["aws"]}
    pools = site["clouds"]["aws"]["regions"]["us-east-1"]
    names = [
        region
        for region, zones in ZONES["aws"].items()
        if len(zones) >= 3 and "medium" in offered("aws", region)
    ]
    site["clouds"]["aws"]["regions"] = {
        region: {**pools, "network": f"10.{number}.0.0/16"} for number, region in enumerate(names[:count])
    }
    return yaml.safe_dump(site, sort_keys=False)


def test_a_site_of_many_regions_keeps_within_the_rules_that_aws_takes() -> None:
    plan = plan_site(parse_site(many_regions(9), shown="s.yaml", stem="example"))
    counts = [rules_in_aws(region, role) for region in plan.regions for role in region.roles]
    assert max(counts) <= AWS_RULES_PER_GROUP
    with pytest.raises(ModelError, match="security group of AWS takes") as caught:
        plan_site(parse_site(many_regions(15), shown="s.yaml", stem="example"))
    assert "rules for control hosts" in caught.value.problems[0].message


def test_nobody_reaches_control_from_the_internet() -> None:
    for region in plan_site(load_site("example")).regions:
        for rule in region.rules:
            if rule.target in ("control", "observability"):
                assert not (isinstance(rule.source, Networks) and "0.0.0.0/0" in rule.source.ranges)


def test_every_type_has_its_price_and_every_cloud_the_same_sizes() -> None:
    for cloud, types in TYPES.items():
        assert tuple(types) == SIZES
        for one in types.values():
            assert prices.instance_usd_per_hour(cloud, "anywhere", one.name) > 0


def test_the_catalogues_images_are_pinned() -> None:
    assert unpinned("gcp", GCP_LINK) is None
    assert unpinned("azure", AZURE_URN) is None
    assert "*" not in AWS_NAME


def test_every_region_has_a_place_on_earth() -> None:
    assert {(cloud, region) for cloud, regions in ZONES.items() for region in regions} <= {
        (cloud, region) for cloud, regions in REGIONS.items() for region in regions
    }


def test_places_that_share_a_nearest_region_get_one_each() -> None:
    found = aws_regions_for([("gcp", "us-east4"), ("aws", "us-east-1"), ("azure", "eastus")])
    assert found["aws", "us-east-1"] == "us-east-1"
    assert len(set(found.values())) == 3


def test_an_edit_is_told_in_words_with_its_price() -> None:
    before = plan_site(load_site("lab"))
    after = edited(
        "lab",
        count=("edge: {role: ingress, count: 2}", "edge: {role: ingress, count: 3}"),
        ports=('ports: ["7000", "8080-8099", "50051"]', 'ports: ["8080-8099"]'),
    )
    said = "\n".join(changes(before, after))
    assert "aws us-east-1: + edge-aws-us-east-1-3 (c6i.large, ingress, l4)" in said
    assert (
        "gcp us-central1: opens workload to ingress (tcp 8080-8099); "
        "before: workload to ingress (tcp 7000 8080-8099 50051)"
    ) in said
    assert "costs: " in said.splitlines()[-1]
    assert changes(before, before) == ()


def test_an_edit_says_where_a_port_gets_another_target_group() -> None:
    """In AWS alone, where a group has its port's protocols; both ways."""
    quic = "reach:\n  - {name: quic, sources: [internet], targets: [ingress], protocol: udp, ports: [443]}\n"
    before, after = edited("lab"), edited("lab", quic=("reach:\n", quic))
    ways = {
        "tcp before, takes tcp and udp": (before, after),
        "tcp and udp before, takes tcp": (after, before),
    }
    for words, edit in ways.items():
        [said] = [one for one in changes(*edit) if "target group" in one]
        assert said.startswith(f"aws us-east-1: port 443 of the load balancer, {words}: ")
        assert said.endswith("what clients open there fails until its health checks have passed")


def test_an_edit_says_which_ports_of_google_cloud_lose_their_forwarding_rule_for_a_moment() -> None:
    """Those that share one with a port that comes or goes, and never those of the proxies themselves."""
    before = edited("lab", ports=('    ports: ["7000"]', '    ports: ["7000-7001", "9000"]'))
    after = edited("lab", ports=('    ports: ["7000"]', '    ports: ["9000", "7001-7005"]'))
    said = [one for one in changes(before, after) if "forwarding rule" in one]
    assert said == [
        "gcp us-central1: the forwarding rule tcp-7000 is made anew: clients of tcp 7001 fail for the moment "
        "without it"
    ]


@given(st.lists(st.tuples(st.sampled_from(("tcp", "udp")), st.integers(1, 65535)), unique=True))
def test_a_forwarding_rule_takes_five_ports_and_none_changes_it(ports: list[FrontPort]) -> None:
    own: list[FrontPort] = [("tcp", 80), ("tcp", 443), ("tcp", 8080)]
    ports = [port for port in ports if port not in own]
    whole = forwarding_rules([*own, *ports])
    assert whole["tcp-1"] == tuple(own)
    assert sorted(port for rule in whole.values() for port in rule) == sorted([*own, *ports])
    assert max(map(len, whole.values())) <= GCP_PORTS_PER_RULE
    half = forwarding_rules([*own, *ports[::2]])
    assert all(set(rule) <= set(whole[name]) for name, rule in half.items())


def test_a_balancer_of_more_rules_than_a_security_group_takes_is_refused() -> None:
    """A port of both protocols is one listener and two rules."""
    spans = ", ".join(f"{at}-{at + 15}" for at in (9000, 9100))
    rules = "".join(
        f"  - {{name: m{one}, sources: [internet], targets: [ingress], protocol: {one}, ports: [{spans}]}}\n"
        for one in ("tcp", "udp")
    )
    with pytest.raises(ModelError, match="68 rules for the load balancer are more") as caught:
        edited("lab", more=("reach:\n", f"reach:\n{rules}"))
    assert "ports in reach" in caught.value.problems[0].fix


def test_the_sum_is_that_of_the_lines_and_a_host_more_costs_what_it_costs() -> None:
    before, after = (
        edited("lab"),
        edited("lab", gcp=("edge: {role: ingress}", "edge: {role: ingress, count: 2}")),
    )
    old, new = costs_of(before), costs_of(after)
    assert total_usd(old) == pytest.approx(sum(one.usd_per_month for one in old))
    more = (prices.INSTANCE_USD_PER_HOUR["n2-standard-2"] + 0.005) * 730 + 30 * 0.10
    assert total_usd(new) - total_usd(old) == pytest.approx(more, abs=0.05)


def test_the_price_section_is_one_that_an_inventory_takes() -> None:
    section = clouds_section(plan_site(load_site("example")))
    edge = Edge.model_validate(yaml.safe_load(yaml.safe_dump(section)))
    assert edge.clouds["aws"].regions["us-east-1"].egress_usd_per_gb == 0.09
