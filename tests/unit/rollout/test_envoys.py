"""Which binary stands for which proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds_agent.rollout.envoys import Envoys


def binary(path: Path, version: str) -> Path:
    path.write_text(f"#!/bin/sh\necho 'envoy  version: 0123abcd/{version}/Clean/RELEASE/BoringSSL'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def now(tmp_path):
    return binary(tmp_path / "envoy", "1.40.0")


@pytest.fixture
def before(tmp_path):
    return binary(tmp_path / "envoy-before", "1.39.3")


async def looked(paths, **runs):
    async def versions():
        return runs

    envoys = Envoys(paths, versions)
    await envoys.look()
    return envoys


async def test_a_proxy_is_tried_on_the_minor_version_it_runs(now, before):
    envoys = await looked([now, before], old="1.39.1", new="1.40.2", older="1.38.0")
    assert [envoys.of(name) for name in ("old", "new", "older", "unheard")] == [before, now, now, now]
    assert envoys.untried(["old", "new", "older", "unheard"]) == {"1.38"}


async def test_a_binary_that_is_exchanged_in_its_place_is_asked_again(now, before):
    envoys = await looked([now, before], edge1="1.39.3")
    assert envoys.of("edge1") == before
    before.unlink()
    binary(before.with_name("fresh"), "1.38.3").rename(before)
    await envoys.look()
    assert envoys.of("edge1") == now
    assert envoys.untried(["edge1"]) == {"1.39"}


async def test_without_the_one_before_all_are_tried_on_what_there_is(now, tmp_path):
    envoys = await looked([now, tmp_path / "none"], edge1="1.40.0")
    assert envoys.of("edge1") == now
    assert envoys.untried(["edge1"]) == set()
