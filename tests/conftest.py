"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# An example may take long on a busy machine; no test judges by time. CI draws the same examples every time,
# so that it tells about the change and not about luck; whoever works on something draws new ones.
settings.register_profile("marchproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("marchproxy"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "marchproxy")
