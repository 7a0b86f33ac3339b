"""`explain-packet --site`: file and line of what decided about a packet."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from xds_agent.cli.datapath_words import show_packet
from xds_agent.datapath.prefixes import Prefixes
from xds_agent.node.datapath.replay import EXEMPT, Replayed, Stage, access, listed, with_origins
from xds_agent.node.datapath.wanted import Wanted

EDGE = {"protection": {"deny": ["198.51.100.0/24", "203.0.113.0/24"]}, "services": [{"name": "db"}]}
ORIGINS = {
    "edge.services[db]": "edge/db.yml:3:5",
    "edge.services[db].forward": "edge/db.yml:7:12",
    "edge.protection": "edge/protection.yml:1:1",
    "edge.protection.deny[1]": "edge/protection.yml:4:5",
}


def found(*stages: Stage) -> Replayed:
    return Replayed("dropped", "drop_denied", stages)


def test_each_stage_gets_the_line_that_says_so() -> None:
    """The nearest thing around it where it has no line of its own; of a list, the entry that decided."""
    stages = with_origins(
        found(
            Stage("parse", "TCP from a to b"),
            Stage("classify", "service db", "services[db]"),
            Stage("access lists", "203.0.113.0/24 is denied", "protection.deny"),
            Stage("limit", "over its rate", "protection.per_source"),
            Stage("forward", "leaves as c", "services[db].forward"),
        ),
        EDGE,
        ORIGINS,
    ).stages
    assert [(one.path, one.origin) for one in stages] == [
        ("", ""),
        ("services[db]", "edge/db.yml:3:5"),
        ("protection.deny[1]", "edge/protection.yml:4:5"),
        ("protection.per_source", "edge/protection.yml:1:1"),
        ("services[db].forward", "edge/db.yml:7:12"),
    ]


def test_people_read_file_and_line(capsys: object) -> None:
    one = with_origins(found(Stage("forward", "leaves", "services[db].forward")), EDGE, ORIGINS)
    show_packet(1, one)
    printed = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "forward: leaves  services[db].forward, edge/db.yml:7" in printed


def test_an_exemption_is_traced_to_what_made_it() -> None:
    """allow, operators, a host, a backend; what no line of the inventory says is the clouds' own."""
    edge = {
        "protection": {"allow": ["192.0.2.0/24"], "operators": ["192.0.3.0/28"], "deny": ["192.0.2.0/24"]},
        "services": [{"name": "db", "endpoints": [{"group": "x"}, {"address": "10.1.0.5"}]}],
    }
    hosts = {"edge1": {"address": "10.9.0.1", "private_address": "10.9.1.1"}}
    wanted = {
        "192.0.2.0/24": "protection.allow[0]", "192.0.3.0/28": "protection.operators[0]",
        "10.9.1.1/32": "hosts.edge1.private_address", "10.1.0.5/32": "services[db].endpoints[1]",
        "35.191.0.0/16": "the clouds' metadata and health probes",
    }  # fmt: skip
    for network, path in wanted.items():
        one = found(Stage("access lists", f"{network} is exempt from lists and limits", EXEMPT))
        assert with_origins(one, edge, {}, hosts).stages[0].path == path
    one = found(Stage("access lists", "192.0.2.0/24 is exempt from lists and limits", EXEMPT))
    assert with_origins(one, {}, {}).stages[0].path == EXEMPT, "without the inventory nobody can say which"


def test_what_was_denied_by_hand_cites_no_line_of_the_inventory() -> None:
    wanted = Wanted(
        lists=(
            (Prefixes.of([ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")]), "deny"),
            (Prefixes.of([ip_network("203.0.113.7/32")]), "exempt"),
        ),
        timed=((ip_network("203.0.113.64/26"), 2000),),
    )
    said = {
        "203.0.113.9": ("203.0.113.0/24 is denied", "protection.deny"),
        "203.0.113.7": ("203.0.113.7/32 is exempt from lists and limits", EXEMPT),
        "203.0.113.70": ("203.0.113.64/26 is denied by hand until 2000 (Unix time): xds-agent deny", ""),
        "2001:db8::9": ("2001:db8::/32 is denied", "protection.deny"),
        "198.51.100.1": ("198.51.100.1 is on none", ""),
    }
    for source, (text, path) in said.items():
        stage = access(listed(wanted, now_s=1999), ip_address(source))
        assert (stage.text, stage.path) == (text, path)
    later = access(listed(wanted, now_s=2001), ip_address("203.0.113.70"))
    assert later.path == "protection.deny", "it has ended"
