"""The simulated days are the same for the same seed, and hindsight is never beaten within its budget."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from bench import steering_sim


def test_a_seed_gives_one_life(tmp_path: Path) -> None:
    picture = tmp_path / "days.svg"
    figures = steering_sim.simulate(minutes=61, seed=3, plot=picture)
    assert figures == steering_sim.simulate(minutes=61, seed=3)
    assert figures["latency_gap_ms"] >= 0.0
    assert figures["latency_p50_ms"] >= figures["best_p50_ms"]
    assert figures["static_cost_over_optimum"] > figures["cost_over_optimum"]
    # A line for every way to steer, in every panel, and hindsight in two of them.
    lines = ET.fromstring(picture.read_text()).findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3 * len(steering_sim.POLICIES) + 2
