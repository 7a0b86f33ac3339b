"""Control upgraded to a version that compiles otherwise: real control processes, node agents and Envoys.

The other version is this tree with one line of its compiler changed, started from a folder of its own.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.support.fault_site import CANARY, NAMES, FaultSite
from tests.support.segment import may_make_namespaces
from tests.support.serve_process import ROOT

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(may_make_namespaces()), reason=may_make_namespaces()),
]

OTHERS = [name for name in NAMES if name != CANARY]
PATIENCE_S = 120.0


def version(folder: Path, before: str, after: str) -> Path:
    """A tree whose compiler writes clusters otherwise."""
    shutil.copytree(ROOT / "xds_agent", folder / "xds_agent", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "xds_agent/compile/clusters.py"
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))
    return folder


async def upgraded(site: FaultSite, root: Path) -> None:
    await site.control_dies()
    site.serve.root = root
    await site.control_returns()


async def held(site: FaultSite) -> dict[str, str]:
    """What each proxy has active now."""
    nodes = (await site.status())["nodes"]
    return {name: nodes[name]["revision"] for name in NAMES}


async def until(look, reached):
    """What `look` gives, once that is as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await look()
            if reached(found):
                return found
            await asyncio.sleep(0.02)


async def ended(site: FaultSite, number: int) -> dict[str, object]:
    """The row of the history that came after `number`, once it has an outcome."""
    return await until(site.newest, lambda row: row["number"] != number and row["outcome"] != "pending")


async def refusers(site: FaultSite) -> set[str]:
    """Proxies of whose refusals the audit tells; it does so within seconds."""
    rows = (await asyncio.to_thread(site.serve.get, "/v1/audit")).json()["rows"]
    return {row["subject"] for row in rows if row["action"] == "node.refused"}


async def test_a_newer_compilers_bytes_pass_the_waves_and_a_refusal_takes_them_back(pki, tmp_path):
    worse = version(
        tmp_path / "worse", "=duration(service.connect_timeout)", "=duration(-service.connect_timeout)"
    )
    better = version(tmp_path / "better", "_PANIC_PERCENT = 1.0", "_PANIC_PERCENT = 7.0")
    site = FaultSite(tmp_path / "site", pki)
    # Long enough to be seen on a busy machine.
    site.rollout = {"waves": [1, "100%"], "soak": "10s"}
    async with site:
        # A shadow would refuse it before any proxy saw it; here a proxy's Envoy is to.
        await site.without_shadow()
        before, number = await held(site), (await site.newest())["number"]
        async with site.load():
            await upgraded(site, worse)
            refused = await ended(site, number)
            assert (refused["kind"], refused["outcome"]) == ("compiler", "refused"), refused
            assert f"{CANARY} refused cluster" in str(refused["words"])
            await site.settled()
            assert await held(site) == before
            assert await until(lambda: refusers(site), bool) == {CANARY}

            await upgraded(site, better)

            def soaking(status) -> bool:
                rollout = status["rollout"]
                return bool(rollout) and (rollout["wave"], rollout["phase"]) == (1, "soaking")

            nodes = (await until(site.status, soaking))["nodes"]
            assert nodes[CANARY]["revision"] != before[CANARY]
            assert {name: nodes[name]["revision"] for name in OTHERS} == {n: before[n] for n in OTHERS}
            live = await ended(site, int(str(refused["number"])))
            assert (live["kind"], live["outcome"]) == ("compiler", "live"), live
            await site.settled()
            after = await held(site)
            assert set(after.values()) == {after[CANARY]}
            assert after[CANARY] != before[CANARY]
            # The inventory's own revision is what it was: to whoever applies it, nothing changes.
            answer = (await site.serve.apply(site.document(site.number), timeout_s=20)).json()
            assert answer["outcome"] == "unchanged", answer
