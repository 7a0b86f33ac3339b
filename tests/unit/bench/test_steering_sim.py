"""The simulated days are the same for the same seed, and hindsight is never beaten within its budget."""

from __future__ import annotations

from bench import steering_sim


def test_a_seed_gives_one_life() -> None:
    figures = steering_sim.simulate(minutes=40, seed=3)
    assert figures == steering_sim.simulate(minutes=40, seed=3)
    assert figures["latency_gap_ms"] >= 0.0
    assert figures["static_cost_over_optimum"] > figures["cost_over_optimum"]
