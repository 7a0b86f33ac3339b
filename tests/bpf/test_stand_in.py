"""Explaining packets: a program that is not the object on disk is named, and copies are copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bpf.conftest import Loader
from tests.bpf.support.bench import Bench
from tests.bpf.test_loading import changed
from tests.bpf.test_veth import Wire, wire
from xds_agent.datapath.link import Link
from xds_agent.datapath.program import load
from xds_agent.node.datapath.attachment import LINKS
from xds_agent.node.datapath.stand_in import other_programs

__all__ = ["wire"]  # a fixture
pytestmark = pytest.mark.root


def test_another_program_than_the_object_is_named(
    wire: Wire, bench: Bench, loaded: Loader, program: Path, bpffs: Path, tmp_path: Path
) -> None:
    """After a take-back the confirmed program runs, and the file is the one that was refused."""
    state: dict[str, Any] = {
        "interfaces": [{"name": wire.near}], "pins": str(bpffs), "program": str(program),
    }  # fmt: skip
    assert other_programs(state, bench.generation) == {
        wire.near: f"no program runs on {wire.near}: it was taken off"
    }
    link = Link.attach(bench.generation, wire.index)
    link.pin(bpffs / LINKS / wire.near)
    link.close()
    # Seeds and maps differ, the program does not.
    assert other_programs(state, loaded()) == {}
    other = load(changed(program, tmp_path / "other", "forward.h", "OUTER_TTL 64", "OUTER_TTL 63"))
    try:
        words = other_programs(state, other)
        assert words == {wire.near: f"the program on {wire.near} is another one than {program}"}
    finally:
        other.close()
