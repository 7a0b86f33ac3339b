"""A newer compiler's bytes of the same inventory: proxies keep the older ones' until waves bring them these.

What control keeps fresh by itself does not wait for that: endpoints, keys, certificates, revocation lists and
denied networks are exchanged within what proxies hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xds_agent.explain.proxy_words import unexplained
from xds_agent.model import join_secrets
from xds_agent.rollout.build import Behind, Built, Live, same
from xds_agent.rollout.change import Answer, Change
from xds_agent.rollout.plan import plan_of
from xds_agent.rollout.release import Failure
from xds_agent.snapshot.resource import ACCESS_LIST, ENDPOINTS, REALS, SECRET, Snapshot
from xds_agent.store.served import About

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline

log = logging.getLogger(__name__)

# Types whose resources change without anybody's edit.
_KEPT_FRESH = (ENDPOINTS, REALS, SECRET, ACCESS_LIST)

LOOK_S = 1.0
# So long proxies have to come back from the restart of control, and to tell their counters of before.
SETTLED_S = 10.0
# Who is still away then is left out, as of any change.
PATIENCE_S = 60.0
# What nobody refused is tried again after this, then after twice as long, and so on.
RETRY_S = 60.0
RETRY_MOST_S = 3600.0
TIMEOUT_S = 60.0


def kept_fresh(held: Mapping[str, Snapshot], fresh: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
    """What each host of `fresh` holds, with those types as they are now, where they go by the same name.

    A host that holds nothing gets all that is fresh. Hosts that share both sides share the result.
    """
    made: dict[tuple[int, int], Snapshot] = {}
    found = {}
    for name, new in fresh.items():
        old = held.get(name)
        if old is None:
            found[name] = new
            continue
        key = (id(old), id(new))
        if key not in made:
            made[key] = _exchanged(old, new)
        found[name] = made[key]
    return found


def _exchanged(old: Snapshot, new: Snapshot) -> Snapshot:
    if old.revision == new.revision:
        return new
    exchanged = {
        type_url: {name: new.of_type(type_url).get(name, one) for name, one in old.of_type(type_url).items()}
        for type_url in _KEPT_FRESH
    }
    return Snapshot.after(old, exchanged)


def as_held(live: Live, about: About, held: Mapping[str, Snapshot], compiler: str) -> Live:
    """What is live, as proxies hold it: the bytes of the compiler before this one."""
    snapshots = kept_fresh(held, live.snapshots)
    if same(snapshots, live.snapshots):
        return live
    words = unexplained(snapshots, live.snapshots, ())
    lines = tuple({"proxies": names, "text": text} for text, names in words.items())
    refused = about.words if about.refused == compiler else ""
    return replace(live, snapshots=snapshots, behind=Behind(about.compiler, lines, refused))


def update_of(live: Live, built: Built) -> Built:
    """`built`, which control made by itself of the live inventory, without a newer compiler's part."""
    if live.behind is None:
        return built
    lines = [line for line in built.lines if line not in live.behind.lines]
    return replace(built, snapshots=kept_fresh(live.snapshots, built.snapshots), lines=lines)


def with_lines(live: Live | None, lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """An edit's lines, and before them what a newer compiler changes that comes with it."""
    behind = live.behind if live is not None else None
    if behind is None:
        return list(lines)
    return [*behind.lines, *(line for line in lines if line not in behind.lines)]


def taken_back(behind: Behind, failures: Sequence[Failure], words: str) -> Behind:
    """After a try that did not stay. A proxy that was away, or still starting, says nothing of the bytes."""
    if any(failure.refusal or failure.path for failure in failures):
        return replace(behind, refused=words, missed="")
    return replace(behind, missed=words)


async def remake(pipeline: Pipeline, timeout_s: float) -> Answer | None:
    """Bring what this compiler makes of the live revision to the proxies, in waves as any change; None when
    they hold it. Raises as `Pipeline.apply`; Conflict when what is live has moved meanwhile."""
    live = pipeline.live
    if live is None or live.behind is None:
        return None
    values = await asyncio.to_thread(pipeline.ledger.values, live.fingerprints)
    reason = f"compiled anew by {pipeline.compiler}; before by {live.behind.compiler}"
    return await pipeline.apply(
        Change(
            document=join_secrets(live.document, values), author="control", reason=reason,
            timeout_s=timeout_s, plan=plan_of(live.document, live.document), wait_s=timeout_s,
        )
    )  # fmt: skip


class Remaking:
    """Brings a newer compiler's bytes to the proxies after control was started with it: until they hold or
    refuse them."""

    def __init__(
        self, pipeline: Pipeline, counted: Callable[[str], None] = lambda outcome: None,
        *, look_s: float = LOOK_S,
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._counted = counted
        self._look_s = look_s
        self._said = ""
        self._pause_s = 0.0

    async def run(self) -> None:
        waited_s = 0.0
        while True:
            await asyncio.sleep(self._look_s)
            waited_s += self._look_s
            live = self._pipeline.live
            if live is None or live.behind is None or live.behind.refused:
                continue
            if waited_s >= self._pause_s and self._settled(waited_s):
                waited_s = 0.0
                await self._bring()

    def _settled(self, waited_s: float) -> bool:
        """Whether waves would meet the proxies, and not the time they take to come back."""
        states = [view.state for view in self._pipeline.publisher.nodes().values()]
        away = states.count("offline")
        if away == len(states) or waited_s < SETTLED_S:
            return False
        return away == 0 or waited_s >= PATIENCE_S

    async def _bring(self) -> None:
        pipeline = self._pipeline
        try:
            answer = await remake(pipeline, TIMEOUT_S)
        except Exception as error:
            # An inventory that was good when it went live may be none any more, as when a certificate has
            # ended: proxies keep what they have, and control serves on.
            if str(error) != self._said:
                log.error("what compiler %s makes is not with the proxies: %s", pipeline.compiler, error)
            self._said = str(error)
            return
        if answer is None:
            return
        self._counted(answer.outcome)
        behind = pipeline.live.behind if pipeline.live is not None else None
        missed = behind is not None and behind.missed != ""
        self._pause_s = min(max(RETRY_S, 2.0 * self._pause_s), RETRY_MOST_S) if missed else 0.0
        words = "; ".join(problem.render() for problem in answer.problems)
        if missed:
            log.warning(
                "what compiler %s makes is tried again in %d s: %s", pipeline.compiler, self._pause_s, words
            )
        elif words:
            log.error("what compiler %s makes was refused: %s", pipeline.compiler, words)
        else:
            log.info("proxies hold what compiler %s makes: revision %s", pipeline.compiler, answer.number)
