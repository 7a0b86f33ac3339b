"""Demonstrations hold what they claim, twice in a row, and leave the lab as it was."""

from __future__ import annotations

import json

import pytest

from tests.lab.conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def test_bad_changes_are_refused_under_traffic_and_leave_nothing_behind(lab: Lab) -> None:
    for _ in range(2):
        done = lab.checkout.run("script/lab", "demo", "bad-change", "--json")
        shown = json.loads(done.stdout)["shown"]
        assert [one for one in shown if not one["as_claimed"]] == []
        assert done.returncode == 0 and len(shown) == 4
    assert not (lab.checkout.root / "inventories/lab/edge/demo-bad-change.yml").exists()
    status = json.loads(lab.on("control1", "xds-agent", "status", "--json"))
    assert {node["state"] for node in status["nodes"].values()} == {"active"}
    assert status["skipped"] == []
