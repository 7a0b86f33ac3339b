"""Benchmarks: `script/bench NAME` runs one, prints figures beside goals, and can write them as JSON."""
