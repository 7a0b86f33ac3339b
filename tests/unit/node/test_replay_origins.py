"""`explain-packet --site`: file and line of what decided about a packet."""

from __future__ import annotations

from xds_agent.cli.datapath_words import show_packet
from xds_agent.node.datapath.replay import Replayed, Stage, with_origins

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
