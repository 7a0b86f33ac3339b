"""What holds for every test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# An example may take long on a busy machine; no test judges by time. CI draws the same examples every time,
# so that it tells about the change and not about luck; whoever works on something draws new ones.
settings.register_profile("marchproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("marchproxy"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "marchproxy")

# One lab is brought up for the tests of two files; else tests of one file go to one worker.
TOGETHER = {"tests/lab/test_demos.py": "the lab", "tests/lab/test_site.py": "the lab"}


def one_after_the_other(nodeid: str) -> str:
    """Tests for which this is the same go to the same worker, in their order."""
    file = nodeid.partition("::")[0]
    return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With ``-n``: in the order of the command line, so that what takes longest begins early."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return one_after_the_other(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)
