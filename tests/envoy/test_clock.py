"""The time of day jumps by an hour in mid-change, there and back: the change goes on, nothing is lost.

libfaketime stands before the clock of control and of the agents, as a clock that somebody sets; the monotonic
clock stays what it is, as with any clock that is set. Envoy does not start with it, so no shadow stands here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.fault_site import FaultSite
from tests.support.segment import may_make_namespaces

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(may_make_namespaces()), reason=may_make_namespaces()),
    pytest.mark.skipif(
        LIBRARY is None, reason="Debian's libfaketime is not installed (script/test installs it)"
    ),
]


class Clock:
    """The time of day of the processes that are started while it is in the environment."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.replace(self._file)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    made = Clock(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest_asyncio.fixture
async def site(clock, pki, tmp_path):
    async with FaultSite(tmp_path / "site", pki, shadow=False) as whole:
        yield whole


async def test_the_time_of_day_is_set_by_an_hour_there_and_back(site, clock):
    async with site.load():
        for offset in ("+1h", "+0"):
            applying = await site.soaking()
            clock.set(offset)
            answer = (await applying).json()
            assert answer["outcome"] == "live", answer
            assert await site.settled() == answer["revision"]
        # Begun an hour before the one before it was.
        assert (await site.change()).json()["outcome"] == "live"
        created = [row["created"] for row in site.serve.get("/v1/history").json()["revisions"]]
        assert created != sorted(created, reverse=True), "the clock that control reads was never set"
