"""Runs the cloud programs against a recorder in place of the engine."""
