"""What the inventory says is what is decided by."""

from __future__ import annotations

from xds_agent.model import Cloud, Steering
from xds_agent.steering import Policy, Region, World
from xds_agent.steering.inventory import policy_of, world_of


def test_defaults_of_the_inventory_are_those_of_the_policy() -> None:
    assert policy_of(Steering()) == Policy()


def test_every_rule_is_read_in_its_unit() -> None:
    said = {
        "algorithm": "cost",
        "order": ["gcp", "aws"],
        "weights": {"aws": 2},
        "latency_budget": "30ms",
        "switch_threshold": 10,
        "hold": "2m",
        "max_shift": 5,
        "min_healthy": 75,
        "failback": {"after": "5m", "ramp": "10m"},
        "capacity": {"aws": 900},
    }
    assert policy_of(Steering.model_validate(said)) == Policy(
        algorithm="cost",
        active_passive=True,
        order=("gcp", "aws"),
        weights={"aws": 2},
        latency_budget_ms=30.0,
        switch_threshold=0.1,
        hold_s=120.0,
        max_shift=0.05,
        min_healthy=0.75,
        failback_after_s=300.0,
        failback_ramp_s=600.0,
        capacity_rps={"aws": 900},
    )


def test_a_region_goes_before_its_cloud_and_a_site_before_what_is_known() -> None:
    cloud = Cloud.model_validate(
        {
            "egress_usd_per_gb": 0.09,
            "regions": {"us-east-1": {"egress_usd_per_gb": 0.05}, "rack": {"latitude": 1, "longitude": 2}},
        }
    )
    world = world_of({"aws": cloud})
    here, rack, other = Region("aws", "us-east-1"), Region("aws", "rack"), Region("gcp", "us-east4")
    assert world.usd_per_gb(here, other) == 0.05
    assert world.usd_per_gb(rack, other) == 0.09
    assert world.usd_per_gb(here, here) == 0.0
    assert world.usd_per_gb(other, here) is None
    assert world.place(rack) == (1, 2)
    assert world.place(here) == World().place(here)
