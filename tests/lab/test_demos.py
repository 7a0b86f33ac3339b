"""Demonstrations hold what they claim and leave the lab as it was; distance is where it was set."""

from __future__ import annotations

import json
from typing import Any

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


def test_counters_confirm_an_edit_of_the_datapath_and_what_is_denied_by_hand(lab: Lab) -> None:
    done = lab.checkout.run("script/lab", "demo", "datapath", "--json")
    assert done.stdout, done.stderr
    shown = json.loads(done.stdout)["shown"]
    assert [one for one in shown if not one["as_claimed"]] == []
    assert done.returncode == 0 and len(shown) == 13
    assert not (lab.checkout.root / "inventories/lab/edge/overlays").exists()


def test_requests_go_where_it_was_said_in_every_algorithm_and_mode(lab: Lab) -> None:
    done = lab.checkout.run("script/lab", "demo", "steering", "--json")
    assert done.stdout, done.stderr
    shown = json.loads(done.stdout)["shown"]
    assert [one for one in shown if not one["as_claimed"]] == []
    assert done.returncode == 0 and len(shown) == 4 * 8
    assert json.loads(lab.checkout.must("script/lab", "wan", "--json")) == []


CONNECTED_S = """
import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], 8080), timeout=60).close()
print(time.monotonic() - began)
"""


def test_clouds_are_as_far_apart_as_was_said_until_it_is_taken_back(lab: Lab) -> None:
    def connected_s(backend: str) -> float:
        address = lab.host(backend)["address"]
        return float(lab.on("edge-aws1", "python3", "-c", CONNECTED_S, address))

    def wan(*words: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(lab.checkout.must("script/lab", "wan", *words, "--json"))
        return rows

    assert wan() == []
    try:
        rows = wan("aws-gcp", "--rtt", "60ms")
        assert [(row["from"], row["to"], row["delay_us"]) for row in rows] == [
            ("aws", "gcp", 30_000), ("gcp", "aws", 30_000),
        ]  # fmt: skip
        assert connected_s("backend-gcp1") >= 0.060
        before = {row["from"]: row["packets"] for row in wan()}
        # Within a cloud, and to another one, no packet meets it; health checks alone go on meeting it.
        connected_s("backend-aws2"), connected_s("backend-azure1")
        assert all(row["lost"] == 0 and row["packets"] >= before[row["from"]] > 0 for row in wan())
    finally:
        assert wan("--off") == []
    assert lab.checkout.run("script/lab", "wan", "aws-nowhere", "--rtt", "1ms").returncode == 1
