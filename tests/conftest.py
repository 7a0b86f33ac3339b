"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# An example may take long on a busy machine; no test judges by time.
settings.register_profile("marchproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("marchproxy")
