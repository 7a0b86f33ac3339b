"""routes, what-if, evacuate and readmit: what they ask, what they show, how they end."""

from __future__ import annotations

import json
from typing import Any

ROW: dict[str, Any] = {
    "service": "shop", "seen_from": "aws us-east-1", "cloud": "aws", "region": "us-east-1", "priority": 0,
    "weight": 10_000, "share": 1.0, "measured_share": 0.99, "rps": 12.0,
    "why": "takes 100 %: number 1 of the order",
    "since": "2026-11-27T18:00:00+00:00", "usd_per_gb": 0.0, "rtt_p50_ms": 0.42, "rtt_p95_ms": 1.3,
    "health": "2 of 2 well",
}  # fmt: skip


def test_routes_are_a_table_with_reasons_and_costs(run: Any, control: Any) -> None:
    control.answers["/v1/routes"] = (
        200,
        {"routes": [ROW], "usd_per_day": {"shop": {"aws": 1.5, "gcp": 0.5}}},
    )
    result = run("routes", "shop")
    assert result.exit_code == 0
    headings, row, costs = result.stdout.rstrip().split("\n")
    assert headings.split()[:2] == ["SERVICE", "SEEN"]
    for word in (
        "aws us-east-1",
        "0.4 ms",
        "1.3 ms",
        "2 of 2 well",
        "100 %",
        "99 %",
        "number 1 of the order",
    ):
        assert word in row
    assert costs == "cost a day at the rate of now: 2.00 USD (shop aws 1.50, gcp 0.50)"
    assert control.asked == [("GET", "/v1/routes?service=shop", None)]


def test_what_if_asks_in_numbers_and_names_who_would_be_down(run: Any, control: Any) -> None:
    gone = {**ROW, "cloud": "gcp", "region": "us-central1", "share": 0.0}
    then = {**gone, "share": 1.0, "why": "takes 100 %: number 2 of the order"}
    load = [{"service": "shop", "cloud": "gcp", "rps": 950.0, "capacity_rps": 900.0, "over": True}]
    control.answers["/v1/what-if"] = (
        200, {"routes": [then], "before": [ROW, gone], "load": load, "alone": ["batch"], "usd_per_day": {},
              "usd_per_day_before": {}},
    )  # fmt: skip
    result = run("what-if", "--cloud-down", "aws", "--price", "gcp=0.12", "--rtt", "azure=+80ms")
    assert result.exit_code == 0
    assert "batch lives only there" in result.stderr
    assert "0 %" in result.stdout
    assert "shop: gcp would get 950 requests a second of 900 it can take: TOO MUCH" in result.stdout
    [(_, _, body)] = control.asked
    assert body == {"cloud_down": "aws", "prices": {"gcp": 0.12}, "rtts_ms": {"azure": 80.0}, "service": None}


def test_what_cannot_be_supposed_is_said_before_anybody_is_asked(run: Any, control: Any) -> None:
    for wrong, words in (
        (("--price", "aws=-1"), "is no price"), (("--price", "aws"), "is no price"),
        (("--price", "aws=inf"), "is no price"), (("--rtt", "gcp=soon"), "is no time"),
        ((), "nothing is supposed"),
    ):  # fmt: skip
        result = run("what-if", *wrong)
        assert (result.exit_code, words in result.stderr) == (1, True)
    assert control.asked == []


def test_evacuate_opens_a_window_and_readmit_ends_it(run: Any, control: Any) -> None:
    window = {"name": "cloud=gcp", "until": "2026-11-27T19:00:00+00:00", "reason": "CHG-812"}
    control.answers["/v1/maintenance"] = (200, {"windows": [window]})
    control.answers["/v1/maintenance/end"] = (200, {"windows": []})
    assert "cloud=gcp" in run("evacuate", "--cloud", "gcp", "--reason", "CHG-812").stdout
    assert json.loads(run("evacuate", "--json").stdout) == {"windows": [window]}
    assert "nothing is evacuated" in run("readmit", "cloud=gcp").stdout
    asked = [(method, target) for method, target, _ in control.asked]
    assert asked == [("POST", "/v1/maintenance"), ("GET", "/v1/maintenance"), ("POST", "/v1/maintenance/end")]
    first = control.asked[0][2]
    assert (first["cloud"], first["reason"], first["allow_outage"]) == ("gcp", "CHG-812", [])
