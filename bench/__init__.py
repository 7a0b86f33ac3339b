"""Benchmarks: `script/bench NAME` runs one, prints its figures beside their goals, and can write them as JSON."""
