"""Two minor versions of Envoy side by side: each proxy's change is tried on the one it runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.processes import envoy_before
from tests.support.resources import cluster, endpoints, replaced, routes, site
from tests.support.segment import may_make_namespaces
from xds_agent.node.admin import Admin
from xds_agent.rollout.shadow import Shadows
from xds_agent.snapshot.resource import EMPTY

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy_before() is None, reason="no Envoy of the minor version before: script/test installs it"
    ),
    pytest.mark.skipif(bool(may_make_namespaces()), reason=may_make_namespaces()),
]


class Fleet:
    """Two proxies of one view; `runs` is what each of them says it runs."""

    def __init__(self, envoy: Path, folder: Path) -> None:
        self.runs = {"edge1": "1.40.0", "edge2": "1.39.3"}
        self.holds = EMPTY
        self._folder = folder
        self.shadows = Shadows(envoy, folder, before=envoy_before(), versions=self._versions)

    async def _versions(self):
        return self.runs

    async def change(self, new):
        old, self.holds = self.holds, new
        tried = await self.shadows.try_out(dict.fromkeys(self.runs, old), dict.fromkeys(self.runs, new))
        assert tried.notes == ()
        return tried.refusals

    async def tried_on(self):
        """Versions of the Envoys that stand as shadows."""
        return sorted([await Admin(found).version() for found in self._folder.glob("*/admin.sock")])


@pytest.fixture
async def fleet(envoy_path):
    folder = Path(tempfile.mkdtemp(prefix="mpm-"))
    fleet = Fleet(envoy_path, folder)
    yield fleet
    await fleet.shadows.stop()
    shutil.rmtree(folder)


async def test_each_minor_has_a_shadow_until_no_proxy_runs_it(fleet):
    good = site(443, {"shop": [8080]})
    assert await fleet.change(good) == {}
    assert await fleet.tried_on() == ["1.39.3", "1.40.0"]

    more = replaced(
        good, cluster("later"), endpoints("later", 1), routes("edge", {"a": "shop", "b": "later"})
    )
    assert await fleet.change(more) == {}
    refusals = await fleet.change(replaced(more, cluster("later", bad_ring=True)))
    assert refusals.keys() == {"edge1", "edge2"}
    assert all("minimum_ring_size" in one.words for one in refusals.values())

    fleet.holds = more
    fleet.runs["edge2"] = "1.40.0"
    assert await fleet.change(good) == {}
    assert await fleet.tried_on() == ["1.40.0"]
