"""The harness judges figures by their goals and finds every benchmark."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import harness


def test_every_benchmark_has_what_the_harness_reads() -> None:
    found = harness.names()
    assert {"boot", "change_to_ack", "compile_scale", "site_runtime"} <= set(found)
    assert not {"harness", "echo_floor", "big_site"} & set(found)


def test_goals_are_judged_only_with_a_figure() -> None:
    goals = {"fast": ("<=", 2.0), "many": (">=", 10.0), "absent": ("<=", 0.0)}
    assert harness.missed({"fast": 2.0, "many": 9.0}, goals) == ["many"]
    assert harness.missed({"fast": 2.1, "many": 10.0}, goals) == ["fast"]
    assert harness.missed({"fast": math.nan}, goals) == ["fast"]


def test_a_missed_goal_is_red() -> None:
    text = harness.table({"fast": 3.0, "other": 1.0}, {"fast": ("<=", 2.0)}, colour=True)
    assert text.splitlines()[0].startswith("\033[31m")
    assert "missed" in text.splitlines()[0]
    assert "\033" not in text.splitlines()[1]


def test_json_and_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = SimpleNamespace(NAME="boot", GOALS={"s": ("<=", 1.0)}, measure=lambda quick: {"s": 2.0 - quick})
    monkeypatch.setattr(harness.importlib, "import_module", lambda name: module)
    target = tmp_path / "out.json"
    assert harness.main(["boot", "--json", str(target)]) == 0
    assert harness.main(["boot", "--strict"]) == 1
    assert harness.main(["boot", "--strict", "--quick"]) == 0
    written = json.loads(target.read_text())
    assert written["figures"] == {"s": 2.0}
    assert written["goals"] == {"s": ["<=", 1.0]}
    assert set(written) == {"name", "figures", "goals", "machine"}
    assert "missed" in capsys.readouterr().out


def test_what_a_benchmark_cannot_do_is_refused_before_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = SimpleNamespace(NAME="boot", GOALS={}, measure=lambda quick: pytest.fail("it ran"))
    monkeypatch.setattr(harness.importlib, "import_module", lambda name: module)
    with pytest.raises(SystemExit) as refused:
        harness.main(["boot", "--plot", str(tmp_path / "picture.svg")])
    assert refused.value.code == 2
    assert "boot has no --plot" in capsys.readouterr().err
