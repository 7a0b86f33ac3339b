"""`explain` and the diff say which tier serves a service, why, and what a change of tier costs."""

from __future__ import annotations

import copy

from tests.support import golden
from xds_agent.compile import Compiled, Compiler
from xds_agent.explain.changes import describe
from xds_agent.explain.protection_words import protection_words
from xds_agent.explain.request import explain
from xds_agent.model import Service, Site
from xds_agent.model.protection import Protection


def _compiled(site: Site) -> Compiled:
    return Compiler().compile(site, golden.words_for_keys(site))


def _changed(site: Site, name: str, **update: object) -> Site:
    services = tuple(
        Service.model_validate({**one.model_dump(exclude_unset=True), **update}) if one.name == name else one
        for one in site.edge.services
    )
    edge = site.edge.model_copy(update={"services": services})
    # The copy would go on with the index of the other's services, where somebody has asked for it.
    edge.__dict__.pop("service_by_name", None)
    return Site(edge=edge, hosts=copy.copy(site.hosts))


def test_a_change_of_the_filter_says_what_operators_might_lose() -> None:
    site = golden.case("datapath").site
    had = Protection(deny=("203.0.113.0/24",), operators=("192.0.2.0/28",), ssh_packets_per_second=200)
    gets = Protection(deny=("203.0.113.0/24", "198.51.100.0/24"), ssh_packets_per_second=100)
    old, new = (
        Site(edge=site.edge.model_copy(update={"protection": one}), hosts=copy.copy(site.hosts))
        for one in (had, gets)
    )
    assert [said.text for said in protection_words(old, new)] == [
        "from 198.51.100.0/24 nothing but SSH (port 22) reaches 2 hosts: operators and monitoring that come "
        "from there need another way",
        "192.0.2.0/28 is exempt no longer: limits hold for who comes from there, and so do denials",
        "SSH gets 100 packets a second from one source (was 200): sessions and Ansible's copies beyond it "
        "stall",
    ]
    assert not list(protection_words(new, new))
    assert not list(protection_words(new, old)), "what is opened costs nobody anything"


def test_explain_says_who_serves_and_why() -> None:
    site = golden.case("datapath").site
    snapshots = _compiled(site).snapshots()
    [by_xdp] = explain(site, snapshots, "tcp://edge:5432", host="edge1")
    assert by_xdp.verdict == "forwarded"
    assert by_xdp.sentence == (
        "XDP sends the packets to 3 reals of db with translated addresses (nat); with no healthy one to the "
        "host itself"
    )
    assert [(one.name, one.path) for one in by_xdp.steps] == [
        ("XDP load balancing", "services[db].listen.address")
    ]
    [by_envoy] = explain(site, snapshots, "tcp://edge:7002", host="edge1")
    [tier] = [one for one in by_envoy.steps if one.kind == "tier"]
    assert (tier.name, tier.path) == ("Envoy's tcp_proxy", "services[shaped].bandwidth")


def test_explain_says_what_tc_does_beside_the_tier() -> None:
    old = golden.case("datapath").site
    site = _changed(old, "shaped", qos="P1", bandwidth={"egress": "100mbit", "ingress": "10mbit"})
    [found] = explain(site, _compiled(site).snapshots(), "tcp://edge:7002", host="edge1")
    [step] = [one for one in found.steps if one.kind == "class"]
    assert (step.name, step.path) == ("tc", "services[shaped].qos")
    assert step.text == (
        "P1: marked DSCP 34, in its HTB class, 100mbit out by a class of its own (HTB), 10mbit in, "
        "policed by XDP; on edge1"
    )


def test_explain_says_that_http_services_have_no_class_of_their_own() -> None:
    old = golden.case("lab").site
    asked = {"qos": "P1", "bandwidth": {"egress": "100mbit"}}
    site = _changed(old, "shop", **asked)
    [found] = explain(site, _compiled(site).snapshots(), "https://shop.example.com/", host="edge-aws1")
    [step] = [one for one in found.steps if one.kind == "class"]
    assert (step.name, step.path) == ("nothing", "services[shop].qos")
    assert step.text.startswith("no qos or bandwidth of services that share the proxy's ports: it is checked")


def test_a_change_of_tier_says_that_connections_are_reset() -> None:
    old = golden.case("datapath").site
    new = _changed(old, "plain", tier="l4")
    said = describe(old, new, _compiled(old).snapshots(), _compiled(new).snapshots())
    texts = [line.text for line in said.lines]
    assert (
        "plain moves from Envoy's tcp_proxy to XDP load balancing (tier: l4 asks for it): its open "
        "connections "
        "are reset"
    ) in texts
    assert "closes connections of listener tcp-7003: the listener goes" in texts
