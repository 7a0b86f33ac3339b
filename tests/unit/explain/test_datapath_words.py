"""`explain` and the diff say which tier serves a service, why, and what a change of tier costs."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from tests.support import golden
from xds_agent.compile import Compiled, Compiler
from xds_agent.explain.changes import Changes, describe
from xds_agent.explain.protection_words import protection_words
from xds_agent.explain.proxy_words import unexplained
from xds_agent.explain.request import explain
from xds_agent.explain.resets import Reset, Where
from xds_agent.explain.said import plural
from xds_agent.model import Service, Site
from xds_agent.model.protection import Protection
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import ACCESS_LIST, DATAPATH_SERVICE, Resource, Snapshot


def _compiled(site: Site) -> Compiled:
    return Compiler().compile(site, golden.words_for_keys(site))


def _changed(site: Site, name: str, /, **update: object) -> Site:
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
    why = "moves from Envoy's tcp_proxy to XDP load balancing"
    # The other host has no Envoy, and so nothing open.
    assert said.resets == (Reset("edge1", "plain", why, "connections", "tcp-7003"),)
    back = describe(new, old, _compiled(new).snapshots(), _compiled(old).snapshots())
    assert {(one.service, one.why, one.counted) for one in back.resets} == {
        ("plain", "moves from XDP load balancing to Envoy's tcp_proxy", "flows")
    }


def test_what_breaks_no_connection_resets_none() -> None:
    """Endpoints, limits, marks of balanced services; another port or way of forwarding, or the end, do."""
    old = golden.case("datapath").site

    def resets(site: Site) -> set[tuple[str, str, str]]:
        said = describe(old, site, _compiled(old).snapshots(), _compiled(site).snapshots())
        return {(one.service, one.why, one.counted) for one in said.resets}

    assert not resets(_changed(old, "db", qos="P1"))
    assert not resets(_changed(old, "db", packet_limit={"packets_per_second": 10}))
    moved = "is listened for or forwarded otherwise"
    assert resets(_changed(old, "db", listen={"address": "vip", "port": 5433})) == {("db", moved, "flows")}
    assert resets(_changed(old, "db", forward="gue")) == {("db", moved, "flows")}
    gue = _changed(old, "db", forward="gue")
    said = describe(gue, old, _compiled(gue).snapshots(), _compiled(old).snapshots())
    assert {one.counted for one in said.resets} == {"nowhere"}


def test_http_that_xdp_counts_apart_is_no_service_of_the_datapath() -> None:
    """Where it comes or goes nothing of XDP's is reset, and a new proxy gets a listener and not that too."""
    new = golden.case("datapath").site
    edge = new.edge.model_copy(update={"domains": (), "services": new.edge.services[1:]})
    edge.__dict__.pop("service_by_name", None)
    old = Site(edge=edge, hosts=copy.copy(new.hosts))
    before, after = _compiled(old).snapshots(), _compiled(new).snapshots()
    known, now = (one["edge1"].of_type(DATAPATH_SERVICE) for one in (before, after))
    assert now.keys() ^ known.keys() == {"envoy/http", "envoy/https"}
    assert not describe(old, new, before, after).resets and not describe(new, old, after, before).resets
    texts = [line.text for line in describe(None, new, None, after).lines]
    assert any(text.endswith(f"and {len(known)} datapath services") for text in texts), texts


def test_another_name_keeps_connections_unless_the_backends_are_others() -> None:
    """XDP finds a flow by addresses and ports, and its backend by the ring of whoever has them now."""
    old = golden.case("datapath").site

    def reset_by(**update: object) -> set[tuple[str, str, str]]:
        new = _changed(old, "db", name="ledger", **update)
        said = describe(old, new, _compiled(old).snapshots(), _compiled(new).snapshots())
        return {(one.service, one.why, one.counted) for one in said.resets}

    fewer = old.edge.service_by_name["db"].model_dump(exclude_unset=True)["endpoints"][:1]
    assert not reset_by()
    for update in ({"endpoints": fewer}, {"forward": "gue"}, {"listen": {"address": "vip", "port": 5433}}):
        assert reset_by(**update) == {("db", "goes", "flows")}


def test_the_words_name_what_is_denied_by_hand_and_what_is_no_longer() -> None:
    """Nobody edited the inventory, and no compiler is newer: the valve was turned, or its time was over."""
    site, compiler = golden.case("datapath").site, Compiler()
    material = golden.words_for_keys(site)
    first, second = 1_795_867_240, 1_795_870_840

    def held(*denied: tuple[str, int]) -> dict[str, Snapshot]:
        return compiler.compile(site, replace(material, denied=denied)).snapshots()

    def texts(old: dict[str, Snapshot], new: dict[str, Snapshot]) -> list[str]:
        return [line.text for line in describe(site, site, old, new).lines]

    free, shut = held(), held(("203.0.113.9/32", first))
    changes = describe(site, site, free, shut)
    assert [line.text for line in changes.lines] == [
        "203.0.113.9/32 is denied by hand until 2026-11-28 12:00:40 UTC"
    ]
    assert set(changes.lines[0].proxies) == {host.name for host in site.datapath_hosts}
    longer = held(("203.0.113.9/32", second), ("2001:db8::/32", first))
    assert texts(shut, longer) == [
        "2001:db8::/32 is denied by hand until 2026-11-28 12:00:40 UTC",
        "203.0.113.9/32 is denied by hand until 2026-11-28 13:00:40 UTC (was 2026-11-28 12:00:40 UTC)",
    ]
    assert texts(shut, free) == ["203.0.113.9/32 is no longer denied by hand"]


def test_lists_that_a_newer_compiler_makes_are_said_to_be_so() -> None:
    message = pb.AccessList(name="deny", ipv4=b"\xcb\x00\x71\x00\x18")
    old, new = (
        {"edge1": Snapshot.of([Resource.of(ACCESS_LIST, "deny", one)], number=1)}
        for one in (message, pb.AccessList(name="deny"))
    )
    assert list(unexplained(old, new, ())) == [
        "access list deny: made anew by the newer compiler, the inventory says the same"
    ]


def _with(site: Site, **service: object) -> Site:
    one = {"name": "mine", "endpoints": [{"address": "10.1.0.9", "port": 7003}], **service}
    services = (*site.edge.services, Service.model_validate(one))
    edge = site.edge.model_copy(update={"services": services})
    edge.__dict__.pop("service_by_name", None)
    return Site(edge=edge, hosts=copy.copy(site.hosts))


BESIDE = [
    # Beside a service of Envoy (which l4only has not), of XDP on every address, and of udp_proxy.
    ("tcp", 7003, "plain", {"edge1"}, "connections", "tcp-7003"),
    ("tcp", 7001, "edge-tcp", {"edge1", "l4only"}, "flows", ""),
    ("udp", 7004, "by-envoy", {"edge1"}, "sessions", "udp-7004"),
]


@pytest.mark.parametrize(("protocol", "port", "loser", "hosts", "counted", "listener"), BESIDE)
def test_a_vip_taken_from_a_service_on_every_address_is_announced(
    protocol: str, port: int, loser: str, hosts: set[str], counted: Where, listener: str
) -> None:
    """And the reverse, with what each ends; once, not with every later change."""
    old = golden.case("datapath").site
    new = _with(old, protocol=protocol, listen={"address": "vip", "port": port})
    before, after = _compiled(old).snapshots(), _compiled(new).snapshots()

    def said(changes: Changes) -> dict[str, set[str]]:
        return {line.text: set(line.proxies) for line in changes.lines if f"vip:{port}" in line.text}

    comes = describe(old, new, before, after)
    assert said(comes) == {f"{loser} loses vip:{port} to mine; its connections there end": hosts}
    why = f"loses vip:{port} to mine"
    assert set(comes.resets) == {Reset(host, loser, why, counted, listener, shared=True) for host in hosts}
    assert comes.summary.endswith(f"connections of 1 service on {plural(len(hosts), 'proxy')} reset")
    goes = describe(new, old, after, before)
    assert said(goes) == {f"{loser} has vip:{port} again": hosts}
    assert {(one.service, one.why) for one in goes.resets} == {("mine", "goes")}
    assert said(describe(None, new, None, after)) == {
        f"{loser} does not get vip:{port}: mine listens there": hosts
    }
    assert not said(describe(new, _changed(new, "db", qos="P1"), after, after)), (
        "what stays is not said again"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [("edge", ["vip", "own"]), ("vip", ["vip"]), ("203.0.114.1", ["vip"]), ("edge1", ["own"]),
     ("10.0.0.1", ["own"])],
)  # fmt: skip
@pytest.mark.parametrize(("protocol", "port", "loser"), [one[:3] for one in BESIDE])
def test_explain_names_who_serves_the_address_asked_for(
    protocol: str, port: int, loser: str, asked: str, told: list[str]
) -> None:
    """Both where the address is not decided."""
    site = _with(golden.case("datapath").site, protocol=protocol, listen={"address": "vip", "port": port})
    found = explain(site, _compiled(site).snapshots(), f"{protocol}://{asked}:{port}", host="edge1")
    starts = {"vip": ("on the vip, ", "mine"), "own": ("on the host's other addresses, ", loser)}
    assert len(found) == len(told)
    for one, place in zip(found, told, strict=True):
        start, name = starts[place]
        assert one.sentence.startswith(start) and name in one.sentence.split()
