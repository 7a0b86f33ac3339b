"""The module `units`: whether a restart is needed is compared, never remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modules import units

NODE = "xds-agent-node.service"


def unit(**changes: Any) -> dict[str, Any]:
    given = {"name": NODE, "state": "started", "enabled": True, "restart_on": [], "reload_on": []}
    return given | changes


def state(**changes: Any) -> units.State:
    given: dict[str, Any] = {
        "load": "loaded", "active": "active", "file_state": "enabled", "needs_daemon_reload": False,
        "started_with": {"/etc/node.yml": "aa"}, "started_at": 1000.25,
    }  # fmt: skip
    return units.State(**(given | changes))


def planned(wanted: dict[str, Any], found: units.State, digests: dict[str, str] | None = None) -> list[str]:
    return [
        str(action).strip() for action in units.plan([wanted], {NODE: found}, (digests or {}).__getitem__)
    ]


def test_what_runs_with_what_is_on_disk_is_left_alone() -> None:
    assert planned(unit(restart_on=["/etc/node.yml"]), state(), {"/etc/node.yml": "aa"}) == []


def test_a_changed_file_needs_a_restart_and_is_named() -> None:
    assert planned(unit(restart_on=["/etc/node.yml"]), state(), {"/etc/node.yml": "bb"}) == [
        f"restart {NODE}: /etc/node.yml changed since it started"
    ]


def test_a_restart_lost_by_a_failed_run_is_found_by_the_next() -> None:
    """A run wrote the file and failed before its end; this one writes nothing and still restarts."""
    found = state(started_with={"/etc/node.yml": "what it was before"})
    assert planned(unit(restart_on=["/etc/node.yml"]), found, {"/etc/node.yml": "aa"})[0].startswith(
        "restart"
    )


def test_what_a_reload_takes_up_is_reloaded() -> None:
    actions = planned(unit(reload_on=["/etc/node.yml"]), state(), {"/etc/node.yml": "bb"})
    assert actions == [f"reload {NODE}: /etc/node.yml changed since it started"]


def test_a_restart_makes_a_reload_needless() -> None:
    found = state(started_with={"/etc/unit": "1", "/etc/node.yml": "aa"})
    wanted = unit(restart_on=["/etc/unit"], reload_on=["/etc/node.yml"])
    (action,) = planned(wanted, found, {"/etc/unit": "2", "/etc/node.yml": "bb"})
    assert action.startswith("restart")


def test_a_unit_that_keeps_no_record_is_judged_by_time(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text("")
    changed = path.stat().st_mtime
    wanted = unit(restart_on=[str(path)])
    assert planned(wanted, state(started_with=None, started_at=changed + 0.1)) == []
    # A package starts its service, and we configure it within the same second.
    assert len(planned(wanted, state(started_with=None, started_at=changed - 0.1))) == 1


def test_a_new_unit_is_enabled_before_it_is_started() -> None:
    found = state(load="not-found", active="inactive", file_state="", started_with=None)
    assert planned(unit(), found) == ["daemon-reload", f"enable {NODE}", f"start {NODE}: it is inactive"]


@pytest.mark.parametrize("active", ["failed", "activating"])
def test_a_unit_that_cannot_start_is_started_afresh(active: str) -> None:
    assert planned(unit(), state(active=active)) == [f"restart {NODE}: it is {active}"]


def test_a_unit_whose_file_changed_is_read_again() -> None:
    assert planned(unit(), state(needs_daemon_reload=True)) == ["daemon-reload"]


def test_stopped_and_disabled() -> None:
    wanted = unit(state="stopped", enabled=False)
    assert planned(wanted, state()) == [f"disable {NODE}", f"stop {NODE}: it should not run"]
    assert planned(wanted, state(active="inactive", file_state="disabled")) == []


def test_systemd_is_asked_once_for_all(tmp_path: Path) -> None:
    (tmp_path / NODE).write_text("aa  /etc/node.yml\n")
    shown = (
        f"Id={NODE}\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"
        "ExecMainStartTimestamp=Thu 1970-01-01 00:16:40.250000 UTC\n\n"
        "Id=nginx.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nExecMainStartTimestamp=\n"
    )
    calls = []

    def run(command: list[str]) -> tuple[int, str, str]:
        calls.append(command)
        return 0, shown, ""

    found = units.gather([NODE, "nginx.service"], run, tmp_path)
    assert found[NODE] == state()
    assert found["nginx.service"].load == "not-found"
    assert len(calls) == 1


def test_a_timer_started_when_it_became_active(tmp_path: Path) -> None:
    shown = (
        "Id=renew.timer\nLoadState=loaded\nActiveState=active\n"
        "ActiveEnterTimestamp=Thu 1970-01-01 00:33:20 UTC\n"
    )
    found = units.gather(["renew.timer"], lambda command: (0, shown, ""), tmp_path)
    assert found["renew.timer"].started_at == 2000.0


def test_a_failed_start_quotes_the_log() -> None:
    def run(command: list[str]) -> tuple[int, str, str]:
        if command[0] == "journalctl":
            return 0, "no such file: node.yml", ""
        return 1, "", "Job failed"

    with pytest.raises(units.UnitsError, match=r"Job failed(.|\n)*no such file: node\.yml"):
        units.apply([units.Action("start", NODE, "")], run)
