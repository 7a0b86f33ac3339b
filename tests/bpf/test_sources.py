"""The C sources: formatted, and every reason has a name Python shows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xds_agent.node.datapath import replay

BPF = Path(__file__).resolve().parents[2] / "bpf"


@pytest.mark.skipif(shutil.which("clang-format") is None, reason="needs clang-format")
def test_sources_are_formatted() -> None:
    done = subprocess.run(
        ["make", "-s", "-C", str(BPF), "check-format"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_reasons_say_by_their_names_what_becomes_of_the_packet() -> None:
    """Verdicts go by ranges of numbers; a name in the wrong range would lie."""
    table = (BPF / "include" / "reasons.h").read_text()
    body = re.sub(r"/\*.*?\*/", "", table[table.index("enum reason {") : table.index("};")], flags=re.DOTALL)
    number, seen = -1, {}
    for name, value in re.findall(r"([A-Z_]+)(?:\s*=\s*(\d+))?,", body):
        number = int(value) if value else number + 1
        seen[name] = number
    kinds = sorted((number, name.split("_")[0]) for name, number in seen.items() if name != "DROP_END")
    order = [kind for _, kind in kinds]
    assert order == sorted(order, key=["PASS", "DROP", "SEND", "NOTE", "REASONS"].index)
    assert seen.pop("DROP_END") <= seen["SEND_GUE"]
    assert len(set(seen.values())) == len(seen)


def test_each_limit_is_named_by_what_the_inventory_says_of_it() -> None:
    table = (BPF / "include" / "reasons.h").read_text()
    assert {
        name.lower() for name in re.findall(r"DROP_[A-Z_]+(?:RATE|BYTES)\b", table)
    } == replay.LIMITS.keys()
