"""Whatever dies in the middle of a change: it ends in the old revision or the new, and no request is lost.

One site for all of these, each of which leaves it whole. Load runs through every proxy throughout, but for
those whose Envoy is what fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import httpx
import pytest
import pytest_asyncio

from tests.support.fault_site import CANARY, NAMES, FaultSite, Missed
from tests.support.segment import may_make_namespaces

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.root,
    pytest.mark.skipif(bool(may_make_namespaces()), reason=may_make_namespaces()),
    pytest.mark.asyncio(loop_scope="module"),
]

# A phase of a second may pass unseen on a slow machine, or end before the kill: another change then.
CATCHES_MOST = 5
OTHERS = [name for name in NAMES if name != CANARY]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(pki, tmp_path_factory):
    async with FaultSite(tmp_path_factory.mktemp("faults"), pki) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(whole):
    whole.before = await whole.settled()
    return whole


async def outcome(applying) -> str:
    answer = await applying
    return str(answer.json().get("outcome", answer.text))


async def standing_shadow(site) -> int:
    """Its process. Changes bring one, but for those whose shadow is not up in its time on a busy machine."""
    notes: list[str] = []
    for _ in range(5):
        if found := site.shadow_pids():
            break
        answer = (await site.change()).json()
        assert answer["outcome"] == "live", answer
        notes += answer["notes"]
        site.before = await site.settled()
    [shadow] = found or site.shadow_pids() or pytest.fail(f"no shadow stands: {notes}")
    return shadow


async def test_without_a_fault_a_change_goes_through(site):
    async with site.load():
        assert await outcome(site.change()) == "live"
        assert await site.settled() != site.before


@pytest.mark.parametrize(
    ("wave", "phase"),
    [(1, "publishing"), (1, "asking"), (1, "soaking"), (1, "judging"), (2, "publishing"), (2, "asking")],
)
async def test_control_killed_in_a_phase_returns_with_the_old_revision_everywhere(site, wave, phase):
    """A control host that reboots is the same: nothing of the change is in memory any more."""
    canary = site.nodes[CANARY].agent
    async with site.load():
        for _ in range(CATCHES_MOST):
            applying = site.change()
            with contextlib.suppress(Missed):
                if phase == "judging":
                    # An agent that does not answer for its counters holds the gate, for a second.
                    await site.phase(wave, "soaking", applying)
                    canary.signal(signal.SIGSTOP)
                elif wave == 2:
                    await site.phase(1, "soaking", applying)
                with site.held() if phase in ("publishing", "asking") else contextlib.nullcontext():
                    await site.phase(wave, phase, applying)
                    await site.control_dies()
                canary.signal(signal.SIGCONT)
                [answer] = await asyncio.gather(applying, return_exceptions=True)
                if isinstance(answer, httpx.TransportError):
                    break
                # The change was faster than the kill, and has been answered.
                await site.control_returns()
            canary.signal(signal.SIGCONT)
            site.before = await site.settled()
        else:
            pytest.fail(f"{CATCHES_MOST} changes were over before control was killed in wave {wave}, {phase}")
        await site.control_returns()
        assert await site.settled() == site.before
    assert (await site.newest())["outcome"] == "interrupted"


async def test_control_killed_while_the_shadow_tries_returns_with_the_old_revision(site):
    async with site.load():
        shadow = await standing_shadow(site)
        os.kill(shadow, signal.SIGSTOP)
        applying = site.change()
        async with asyncio.timeout(20):
            while (await site.newest())["outcome"] != "pending":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await site.control_dies()
        with pytest.raises(httpx.TransportError):
            await applying
        await site.control_returns()
        assert await site.settled() == site.before
        assert shadow not in site.shadow_pids()


async def test_a_shadow_that_is_killed_says_nothing_about_the_change(site):
    async with site.load():
        shadow = await standing_shadow(site)
        os.kill(shadow, signal.SIGKILL)
        answer = (await site.change()).json()
        assert answer["outcome"] == "live", answer
        assert answer["revision"] == await site.settled()


@pytest.mark.parametrize("phase", ["publishing", "asking", "soaking"])
async def test_an_agent_killed_in_a_phase_comes_back_and_the_change_goes_on(site, phase):
    node = site.nodes[CANARY]
    async with site.load():
        with contextlib.ExitStack() as holding:
            if phase != "soaking":
                holding.enter_context(site.held())
            applying = await site.caught(phase)
            await node.agent.kill()
        await node.start_agent()
        answer = (await applying).json()
        # On a machine so slow that it takes more than 10 s to start, it is lost.
        assert answer["outcome"] == "live" or "was lost" in answer["problems"][0]["text"], answer
        assert await site.settled() == (answer["revision"] or site.before)


async def test_an_agent_that_does_not_come_back_takes_the_change_back(site):
    node = site.nodes[CANARY]
    async with site.load():
        applying = await site.soaking()
        await node.agent.kill()
        answer = (await applying).json()
        assert answer["outcome"] == "refused", answer
        assert f"{CANARY} was lost after it got the change" in answer["problems"][0]["text"]
        await site.settled(OTHERS)
        await node.start_agent()
        assert await site.settled() == site.before


async def test_a_proxy_that_stands_still_in_wave_1_takes_the_change_back_and_then_follows(site):
    node = site.nodes[CANARY]
    # None begins a connection at the one that stands still: it closes handshakes that take too long.
    async with site.load(OTHERS):
        with site.held():
            applying = await site.caught("publishing", timeout_s=3)
            node.envoy.signal(signal.SIGSTOP)
        try:
            answer = (await applying).json()
        finally:
            node.envoy.signal(signal.SIGCONT)
        assert answer["outcome"] == "refused", answer
        assert CANARY in answer["problems"][0]["text"]
        assert await site.settled() == site.before
    async with site.load([CANARY]):
        assert await site.settled() == site.before


async def test_a_proxy_that_restarts_in_the_middle_ends_like_the_others(site):
    node = site.nodes[CANARY]
    async with site.load(OTHERS):
        applying = await site.soaking()
        await node.envoy.kill()
        await node.envoy.start()
        answer = (await applying).json()
        assert answer["outcome"] in ("live", "refused"), answer
        assert await site.settled() == (answer["revision"] or site.before)
    await node.envoy.live()
