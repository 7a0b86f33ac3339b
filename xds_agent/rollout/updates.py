"""What control changes by itself: placements, renewals, lists, denials. Exempt from shadows and waves.

They do not wait behind an edit that soaks: what is live and what the edit makes of it are both made anew,
and each proxy is given its own of the two. Such an update is told in the audit alone, since the revision that
holds the same inventory is the one before the edit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from xds_agent.model import join_secrets
from xds_agent.rollout import placing
from xds_agent.rollout.build import Built, Live, same
from xds_agent.rollout.change import Change
from xds_agent.rollout.ledger import draft_of
from xds_agent.rollout.release import Release
from xds_agent.rollout.remade import kept_fresh, update_of
from xds_agent.steering.deciding import Decisions

if TYPE_CHECKING:
    from xds_agent.rollout.pipeline import Pipeline

log = logging.getLogger(__name__)

# A placement waits for connected proxies so long; who is slower gets it all the same.
PLACE_TIMEOUT_S = 5.0
REFRESH_TIMEOUT_S = 30.0
DEPOSED = "this control host leads no more"


@dataclass
class UnderWay:
    """An edit between its first wave and its end; what it is made of may be made anew meanwhile."""

    built: Built
    release: Release

    def rebase(self, live: Live, built: Built) -> None:
        self.built = built
        self.release.rebase(live.snapshots, built.snapshots)


class Updates:
    """Of one pipeline. `refused` says why the last refresh was taken back; empty when it was not."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.refused = ""
        # A refresh was asked for and is not with the proxies, for whatever reason.
        self.owed = False
        self._refusers: frozenset[str] = frozenset()
        # Who refused what was taken back last.
        self._against: frozenset[str] = frozenset()

    async def place(self, decisions: Decisions, *, of: Live | None) -> str | None:
        """Send what is live by other decisions: endpoint sets alone, at once and without waves. `of` is what
        was live when they were made.

        "" once connected proxies have it, the words of the refusals after going back, None when a change came
        between and the decisions are no longer of what is live. Goes back when more than half refuse: one ill
        host must not keep the requests of all others where they are. It keeps its own last good set.
        """
        pipeline = self._pipeline
        async with pipeline.hand:
            live = pipeline.live
            if live is None or live is not of or pipeline.deposed.is_set():
                return None
            edit = pipeline.under_way.built if pipeline.under_way is not None else None
            after = await self._placed(live, decisions)
            # Raises where anything but endpoint sets would change.
            placing.touched(live.snapshots, after.snapshots)
            moved = await self._edit_placed(edit, decisions) if edit is not None else None
            words = await self._show(after, moved, timeout_s=PLACE_TIMEOUT_S)
            return None if pipeline.deposed.is_set() else words

    async def refresh(self, reason: str) -> bool:
        """Serve the same site with material that is due for renewal or changed on disk; True if it did.

        Stored with its reason. Who refuses one is left out of the next: a single proxy must not keep
        certificates and revocation lists from all others.
        """
        pipeline = self._pipeline
        if pipeline.live is None:
            return False
        self.owed = True
        async with pipeline.hand:
            changed = await self._refresh(reason)
            self.owed = bool(self.refused) or pipeline.deposed.is_set()
            return changed

    async def _refresh(self, reason: str) -> bool:
        pipeline = self._pipeline
        live, under_way = pipeline.live, pipeline.under_way
        if live is None or pipeline.deposed.is_set():
            return False
        values = await asyncio.to_thread(pipeline.ledger.values, live.fingerprints)
        built = await pipeline.build(join_secrets(live.document, values), serving=True)
        built = update_of(live, built)
        words = "; ".join(built.prepared.reasons) or reason
        self.refused = ""
        if under_way is not None:
            return await self._beside(live, built, under_way, words)
        if same(built.snapshots, live.snapshots):
            return False
        change = Change(document={}, author="control", reason=words, timeout_s=REFRESH_TIMEOUT_S)
        draft = draft_of(built, change, kind="operational")
        number = await asyncio.to_thread(pipeline.ledger.keep, draft, built)
        answer = await pipeline.publish(built, number, change, excused=self._refusers)
        self.refused = "; ".join(problem.message for problem in answer.problems)
        views = answer.nodes.items() if self.refused else ()
        self._refusers = frozenset(name for name, view in views if view.state == "refused")
        return answer.outcome == "live"

    async def _beside(self, live: Live, built: Built, under_way: UnderWay, words: str) -> bool:
        """The same while an edit soaks."""
        pipeline, edit = self._pipeline, under_way.built
        await asyncio.to_thread(pipeline.ledger.keep_certificates, built.prepared.issued)
        anew = await pipeline.build(join_secrets(edit.document, edit.values), serving=True)
        await asyncio.to_thread(pipeline.ledger.keep_certificates, anew.prepared.issued)
        if same(built.snapshots, live.snapshots) and same(anew.snapshots, edit.snapshots):
            return False
        anew = replace(
            anew,
            document=edit.document,
            lines=edit.lines,
            summary=edit.summary,
            closings=edit.closings,
            resets=edit.resets,
        )
        after = replace(built.live(live.number), id=live.id, behind=live.behind)
        detail = {"reason": words, "during": under_way.release.number}
        await asyncio.to_thread(pipeline.ledger.note, "revision.operational", live.number, "control", detail)
        self.refused = await self._show(
            after, anew, timeout_s=REFRESH_TIMEOUT_S, excused=self._refusers, bearable=0.0
        )
        self._refusers = self._against if self.refused else frozenset()
        return not self.refused

    async def _placed(self, live: Live, decisions: Decisions) -> Live:
        async with self._pipeline.compiling:
            compiled = await asyncio.to_thread(self._pipeline.builder.place, live, decisions)
        snapshots = compiled.snapshots()
        if live.behind is not None:
            snapshots = kept_fresh(live.snapshots, snapshots)
        return replace(live, compiled=compiled, snapshots=snapshots, decisions=decisions)

    async def _edit_placed(self, edit: Built, decisions: Decisions) -> Built:
        """The same decisions, carried over to the site as the edit leaves it."""
        pipeline = self._pipeline
        if pipeline.steerer is not None:
            decisions = await asyncio.to_thread(pipeline.steerer.carried, edit.site, edit.scene, decisions)
        placed = await self._placed(edit.live(0), decisions)
        return replace(edit, compiled=placed.compiled, snapshots=placed.snapshots, decisions=decisions)

    async def _show(
        self, live: Live, edit: Built | None, *, timeout_s: float, excused: Collection[str] = (),
        bearable: float = 0.5,
    ) -> str:  # fmt: skip
        """Publish both sides, each to its own proxies; "" when it stays. Goes back when a greater share than
        `bearable` of those asked refuse, and says why."""
        pipeline, publisher = self._pipeline, self._pipeline.publisher
        if pipeline.deposed.is_set():
            # Whatever was under way is taken back already, and what comes next is another's word.
            return DEPOSED
        under_way, before, before_number = pipeline.under_way, dict(publisher.snapshots), publisher.number
        wanted, number = dict(live.snapshots), live.number
        if under_way is not None and edit is not None:
            wanted |= {name: edit.snapshots[name] for name in under_way.release.touched}
            number = under_way.release.number
        touched = {n for n, s in wanted.items() if n not in before or before[n].revision != s.revision}
        # Who is away, or refuses what it is to hold already, has no say in what all the others get.
        here = {name for name, view in publisher.nodes().items() if view.state not in ("offline", "refused")}
        asked = (touched & here) - set(excused)
        most = int(len(asked) * bearable)
        pipeline.show(wanted, number)
        try:
            await publisher.settle(timeout_s=timeout_s, names=asked, refusals_wanted=most + 1)
        except asyncio.CancelledError:
            pipeline.show(before, before_number)
            raise
        if pipeline.deposed.is_set():
            return DEPOSED
        refused = sorted(asked & publisher.refusals.keys())
        words = "; ".join(f"{name}: {pipeline.words_of(publisher.refusals[name])}" for name in refused)
        if len(refused) > most:
            self._against = frozenset(refused)
            pipeline.show(before, before_number)
            return words
        if refused:
            log.error(
                "%d of %d proxies refused an update and keep their own: %s", len(refused), len(asked), words
            )
            # A refusal left standing would be taken for one of the edit that soaks.
            pipeline.show({**wanted, **{name: before[name] for name in refused}}, number)
            live = _without(live, pipeline.live, refused)
            edit = _without(edit, under_way.built, refused) if edit is not None and under_way else edit
        pipeline.live = live
        if under_way is not None and edit is not None:
            under_way.rebase(live, edit)
        return ""


_Made = TypeVar("_Made", Live, Built)


def _without(made: _Made, before: _Made | None, names: Collection[str]) -> _Made:
    """The same, but that these proxies keep what they had."""
    had = before.snapshots if before is not None else {}
    return replace(made, snapshots={**made.snapshots, **{n: had[n] for n in names if n in had}})
