"""docs/protocol.md says the truth: each rule and trap has tests that name it, and each named thing exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs/protocol.md").read_text()
FOLDERS = [ROOT / "tests/unit/protocol", ROOT / "tests/unit/snapshot"]


def functions() -> set[str]:
    text = "\n".join(path.read_text() for folder in FOLDERS for path in folder.glob("test_*.py"))
    return set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))


def test_every_rule_and_trap_has_tests_that_name_it():
    named = functions()
    for number in range(1, 27):
        assert any(name.startswith(f"test_rule_{number:02}_") for name in named), number
    # Trap 7 is of the admin client, outside the protocol.
    for number in (1, 2, 3, 4, 5, 6, 8, 9):
        assert any(name.startswith(f"test_trap_{number}_") for name in named), number


def test_the_document_lists_them_all_and_nothing_else():
    listed = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    named = functions()
    assert listed <= named
    assert {name for name in named if re.match(r"test_(rule|trap)_", name)} <= listed


def test_the_files_it_names_exist():
    for name in set(re.findall(r"`((?:protocol/|snapshot/|node/)?\w+\.py)`", DOCUMENT)):
        places = [
            ROOT / "xds_agent" / name,
            *(ROOT / "xds_agent" / p / name for p in ("protocol", "snapshot")),
        ]
        assert any(place.exists() for place in places), name
