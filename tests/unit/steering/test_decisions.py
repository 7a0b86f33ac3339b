"""Decisions one can check by hand: each algorithm and mode, and each rule that keeps them calm."""

from __future__ import annotations

from typing import Any

import pytest

from xds_agent.steering import (
    Endpoint,
    Estimate,
    Fees,
    Group,
    Placement,
    Policy,
    Question,
    Region,
    Rtt,
    World,
    combined,
    decide,
    great_circle_km,
    group_of,
    spread,
)
from xds_agent.steering.regions import REGIONS

US, IOWA, EU = Region("aws", "us-east-1"), Region("gcp", "us-central1"), Region("azure", "westeurope")
ALL = [Group(US), Group(IOWA), Group(EU)]
FRANKFURT = Region("aws", "eu-central-1")
ORDER = ("aws", "gcp", "azure")
PRICES = World(
    fees={Region("aws"): Fees(0.09, 0.02), Region("gcp"): Fees(0.12), Region("azure"): Fees(0.087)}
)


def _passive(algorithm: Any = "weighted", **more: Any) -> Policy:
    return Policy(algorithm=algorithm, active_passive=True, **{"order": ORDER, **more})


def _priorities(made: Placement) -> dict[Region, int]:
    return {one.region: one.priority for one in made.placed}


def _shares(made: Placement) -> dict[str, float]:
    return {region.cloud: round(share, 3) for region, share in made.shares().items()}


def _reason(made: Placement, region: Region) -> str:
    return next(one.reason for one in made.placed if one.region == region)


def test_distance_is_that_of_the_globe() -> None:
    assert great_circle_km((52.5, 13.4), (-33.9, 151.2)) == pytest.approx(16_090, rel=0.01)
    assert great_circle_km((0.0, 179.5), (0.0, -179.5)) == pytest.approx(111.2, rel=0.01)
    assert World().distance_km(US, US) == 0.0
    assert World().distance_km(US, Region("colo", "fra1")) is None
    assert World(places={Region("colo", "fra1"): (50.1, 8.7)}).distance_km(
        FRANKFURT, Region("colo", "fra1")
    ) == pytest.approx(0.0, abs=1.0)


def test_regions_are_on_the_globe() -> None:
    assert {cloud: len(regions) for cloud, regions in REGIONS.items()} == {"aws": 38, "azure": 69, "gcp": 42}
    for regions in REGIONS.values():
        assert all(-90 <= north <= 90 and -180 <= east <= 180 for north, east in regions.values())


def test_geo_ranks_by_distance_from_where_the_proxy_stands() -> None:
    made = decide(Question(_passive("geo"), FRANKFURT, ALL))
    assert _priorities(made) == {EU: 0, US: 1, IOWA: 2}
    assert _reason(made, EU) == "takes 100 %: 368 km away"
    assert _priorities(decide(Question(_passive("geo"), IOWA, ALL))) == {IOWA: 0, US: 1, EU: 2}


def test_regions_of_one_town_are_told_apart_by_the_order() -> None:
    twins = [Group(Region("gcp", "us-east4")), Group(Region("azure", "eastus2")), Group(US)]
    for order in (("gcp", "aws", "azure"), ("aws", "gcp", "azure")):
        made = decide(Question(_passive("geo", order=order), IOWA, twins))
        ashburn = [one.region.cloud for one in made.placed if one.region.cloud != "azure"]
        assert ashburn == list(order[:2])


def test_cost_takes_the_cheapest_within_the_budget() -> None:
    far = Group(Region("aws", "ap-southeast-2"))
    made = decide(Question(_passive("cost"), FRANKFURT, [*ALL, far], world=PRICES))
    assert next(iter(made.shares())).cloud == "aws"
    tight = _passive("cost", latency_budget_ms=30.0)
    rtts = {US: Estimate(95, 1), IOWA: Estimate(120, 1), EU: Estimate(9, 1), far.region: Estimate(280, 1)}
    made = decide(Question(tight, FRANKFURT, [*ALL, far], world=PRICES, rtts=rtts))
    assert _shares(made) == {"azure": 1.0}
    assert "beyond the budget of 30 ms" in _reason(made, US)
    assert "0.020 USD a gigabyte" in _reason(made, US)


def test_latency_leaves_what_is_as_good_to_the_order() -> None:
    rtts = {US: Estimate(44, 1), IOWA: Estimate(40, 1), EU: Estimate(60, 1)}
    assert _shares(decide(Question(_passive("latency"), US, ALL, rtts=rtts))) == {"aws": 1.0}
    rtts[US] = Estimate(49, 1)
    assert _shares(decide(Question(_passive("latency"), US, ALL, rtts=rtts))) == {"gcp": 1.0}


def test_what_is_not_measured_is_believed_by_its_distance() -> None:
    made = decide(Question(_passive("latency"), FRANKFURT, ALL))
    assert _shares(made) == {"azure": 1.0}
    assert _reason(made, EU) == "takes 100 %: 4 ms away by its distance, not measured"


def test_all_active_share_the_near_ones_more() -> None:
    rtts = {US: Estimate(9, 1), IOWA: Estimate(19, 1), EU: Estimate(99, 1)}
    shares = _shares(decide(Question(Policy("latency"), US, ALL, rtts=rtts)))
    assert shares == {"aws": 0.625, "gcp": 0.312, "azure": 0.062}
    weighted = Policy(weights={"aws": 3, "gcp": 1, "azure": 0})
    made = decide(Question(weighted, US, ALL))
    assert _shares(made) == {"aws": 0.75, "gcp": 0.25}
    assert made.left_out == ((EU, "its cloud has weight 0"),)


def test_what_is_beyond_the_capacity_spills_over() -> None:
    policy = _passive(capacity_rps={"aws": 600.0, "gcp": 300.0, "azure": 50.0})
    assert _shares(decide(Question(policy, US, ALL, load_rps=500.0))) == {"aws": 1.0}
    made = decide(Question(policy, US, ALL, load_rps=800.0))
    assert _shares(made) == {"aws": 0.75, "gcp": 0.25}
    assert "aws is at its capacity" in _reason(made, US)
    made = decide(Question(policy, US, ALL, load_rps=2000.0))
    assert _shares(made)["aws"] == pytest.approx(2 * _shares(made)["gcp"], rel=0.01)
    assert "more than all clouds can take" in made.notes[0]


def test_who_is_down_is_left_at_once_and_all_down_is_said() -> None:
    policy = _passive()
    made = decide(Question(policy, US, ALL), None, 0.0)
    made = decide(Question(policy, US, [Group(US, 4, 0.25), Group(IOWA), Group(EU)]), made, 1.0)
    assert _priorities(made) == {IOWA: 0, EU: 1, US: 2}
    assert "down, 25 % of it is well (at least 50 %)" in _reason(made, US)
    made = decide(Question(policy, US, [g._replace(healthy=0.0) for g in ALL]), made, 2.0)
    assert "everything is down" in made.notes[0]
    assert _shares(made) == {"aws": 1.0}


def test_a_move_needs_the_gain_for_as_long_as_hold_and_goes_by_steps() -> None:
    policy = _passive("latency", hold_s=30.0, step_s=10.0, max_shift=0.5)

    def asked(us_ms: float) -> Question:
        return Question(policy, US, ALL, rtts={US: Estimate(us_ms, 1), IOWA: Estimate(40, 1)})

    made = decide(asked(30), None, 0.0)
    for now, us_ms, shares in (
        (10.0, 47, {"aws": 1.0}),  # a gain of less than the threshold
        (20.0, 90, {"aws": 1.0}),  # held for nothing yet
        (40.0, 90, {"aws": 1.0}),  # 20 s
        (45.0, 41, {"aws": 1.0}),  # not held: the time starts anew
        (50.0, 90, {"aws": 1.0}),
        (80.0, 90, {"aws": 0.5, "gcp": 0.5}),
        (85.0, 90, {"aws": 0.5, "gcp": 0.5}),  # no step is over
        (90.0, 90, {"gcp": 1.0}),
    ):
        made = decide(asked(us_ms), made, now)
        assert _shares(made) == shares, now


def test_an_edit_of_the_inventory_waits_for_no_hold() -> None:
    rtts = {US: Estimate(40, 1), IOWA: Estimate(41, 1), EU: Estimate(60, 1)}
    made = decide(Question(_passive("latency"), US, ALL, rtts=rtts), None, 0.0)
    edited = _passive("latency", order=("gcp", "azure"), max_shift=0.1)
    made = decide(Question(edited, US, ALL, rtts=rtts), made, 1.0)
    assert _shares(made) == {"gcp": 1.0}, "what the order no longer names is left at once"
    assert made.left_out == ((US, "the order (gcp, azure) does not name its cloud"),)


def test_impossible_samples_and_clocks_change_nothing() -> None:
    path = Rtt().after(20.0, 100.0)
    for wrong in (0.0, -3.0, float("nan"), float("inf"), 1e9):
        assert path.after(wrong, 101.0) == path
    back = path.after(20.0, 50.0)
    assert back.last_s == 100.0
    assert path.at(220.0) is None, "too old"
    assert path.at(100.0) == Estimate(20.0, 0.2)


def test_queues_on_the_way_do_not_show_and_a_longer_path_does() -> None:
    path = Rtt()
    for n in range(60):
        path = path.after(20.0 if n % 5 == 0 else 90.0, float(n))
    assert path.smooth_ms == pytest.approx(20.0, abs=0.1)
    for n in range(60, 200):
        path = path.after(70.0, float(n))
    assert path.smooth_ms == pytest.approx(70.0, abs=1.0)


def test_a_node_that_lies_changes_nothing() -> None:
    honest = [Estimate(20, 0.8), Estimate(21, 0.9), Estimate(22, 0.8)]
    found = combined([*honest, Estimate(1, 1.0), None])
    assert found is not None
    assert 20 <= found.ms <= 22
    assert combined([Estimate(10, 0.8), Estimate(100, 0.8)]) == Estimate(55, 0.4)
    assert combined([None]) is None


def test_endpoints_of_a_group_share_what_it_gets() -> None:
    endpoints = [Endpoint("a", 1, True), Endpoint("a", 1, False), Endpoint("b", 2, None), Endpoint("c", 0)]
    assert group_of(US, endpoints) == Group(US, 4, 0.75)
    assert group_of(US, [Endpoint("a")]) == Group(US, 1, None)
    assert spread(600, endpoints) == ({"a": 200, "b": 400, "c": 0}, (1, 0, 2, 0))
    down = [Endpoint("a", 1, False), Endpoint("b", 1, False)]
    assert spread(100, down) == ({"a": 50, "b": 50}, (1, 1))
