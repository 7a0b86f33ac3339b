"""From a site document to acknowledged proxies: validate, compile, say it, store, publish in waves, wait.

One change at a time. What is served is always a whole stored revision: the new one is stored before it is
published, becomes "live" when no proxy refused it, and is the one served at the next boot only from then on.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xds_agent.compile import CompileError
from xds_agent.model import ModelError, Rollout, join_secrets, load_site
from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout import answers, completeness
from xds_agent.rollout.admission import admit
from xds_agent.rollout.blame import placed, problems_of
from xds_agent.rollout.booting import served_again
from xds_agent.rollout.build import Behind, Builder, Built, Live, same
from xds_agent.rollout.canary.rounds import Ask, Rounds
from xds_agent.rollout.change import Answer, Change, Conflict
from xds_agent.rollout.compilers import compiler_name
from xds_agent.rollout.hand import Hand
from xds_agent.rollout.leading import while_leading
from xds_agent.rollout.ledger import Ledger, draft_of
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.plan import check_plan, plan_of
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.questions import Questions, count_open, sessions_by_listener
from xds_agent.rollout.queue import Queue
from xds_agent.rollout.release import Failure, Progress, Release, sick_before
from xds_agent.rollout.remade import taken_back, with_lines
from xds_agent.rollout.shadow import Shadows
from xds_agent.rollout.skip.leaving_out import leave_out
from xds_agent.rollout.skip.parts import SKIPPED, marked
from xds_agent.rollout.skip.trials import NotFound
from xds_agent.rollout.trying import try_out
from xds_agent.rollout.updates import UnderWay, Updates
from xds_agent.rollout.vitals import Vitals
from xds_agent.rollout.waves import WavePlan, plan_waves
from xds_agent.rollout.windows import Windows
from xds_agent.snapshot.resource import Snapshot
from xds_agent.store import Store, StoreError
from xds_agent.store.revisions import Kind

if TYPE_CHECKING:
    from xds_agent.rollout.steerer import Steerer

log = logging.getLogger(__name__)

# Proxies revert by themselves in milliseconds; this bounds the wait for their word.
REVERT_TIMEOUT_S = 10.0
# How operational updates go out.
_AT_ONCE = Rollout(waves=("100%",))


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Pipeline:
    """The one way to a new revision. Methods run in the event loop; heavy work goes to a thread."""

    def __init__(
        self, store: Store, publisher: Publisher, ca: SiteCa, *, vitals: Vitals | None = None,
        shadows: Shadows | None = None,
        now: Callable[[], dt.datetime] = _utc_now, compiler: str = "",
    ) -> None:  # fmt: skip
        self.store = store
        self.publisher = publisher
        self.ca = ca
        self.vitals = vitals or Vitals()
        self.shadows = shadows
        self.now = now
        # Which compiler this is (rollout/compilers.py).
        self.compiler = compiler or compiler_name()
        self.live: Live | None = None
        # Makes a node send requests through its Envoy; None until there is a server for nodes.
        self.ask_canary: Ask | None = None
        # Where the change that is being applied stands; None between changes.
        self.progress: Progress | None = None
        self.under_way: UnderWay | None = None
        # Whom the last change did not wait for, and why.
        self.left_out: dict[str, str] = {}
        self.questions = Questions()
        # Decides where requests go; it puts itself here.
        self.steerer: Steerer | None = None
        # Set while another control host may lead: what is published here is its word then, not ours.
        self.deposed = asyncio.Event()
        # Why nothing is served although a revision is stored; empty when all is well.
        self.trouble = ""
        self.ledger = Ledger(store, now)
        self.builder = Builder(store, ca, now)
        self.windows = Windows(self)
        self.updates = Updates(self)
        self.compiling = asyncio.Lock()
        # Held by whoever changes what is published; an edit lets go of it while it soaks.
        self.hand = Hand()
        self._turn = asyncio.Lock()
        self._queue = Queue()

    async def boot(self, *, leading: bool = True) -> None:
        """Serve the last good revision. A revision that was being published when control died is not it."""
        async with self._turn, self.hand:
            await self._boot(leading=leading)

    async def read_live(self) -> None:
        """Know what is live, without publishing it: the one that leads does that."""
        # In turn: who has come to lead meanwhile must not be set back to what was live before.
        async with self._turn, self.hand:
            stored = await asyncio.to_thread(self.ledger.last_good, leading=False)
            if stored is not None and (self.live is None or stored.number != self.live.number):
                self.live = await served_again(self, stored, leading=False)

    async def _boot(self, *, leading: bool) -> None:
        stored = await asyncio.to_thread(self.ledger.last_good, leading=leading)
        if stored is None:
            return
        try:
            self.live = await served_again(self, stored, leading=leading)
            self.publisher.publish(self.live.snapshots, stored.number)
        except StoreError:
            # The database, not the revision: whoever asked for this tries again.
            raise
        except Exception as error:
            # Proxies keep what they have, and the next change can still repair this: stay up.
            self.trouble = f"revision {stored.number} could not be loaded: {error}"
            log.exception("revision %d could not be loaded; nothing is published", stored.number)

    async def apply(self, change: Change) -> Answer:
        """Bring a document live, or say what that would change.

        Raises ModelError or CompileError with every problem, Conflict, NotEntitled, StoreFull, StoreError.
        """
        if change.dry_run:
            built = await self.build(change.document)
            plan_name = self._reviewed(built, change)
            try:
                admit(self.live.site if self.live else None, built.site, change)
            except Conflict as refusal:
                # Whoever only looks sees what the removal is part of, too.
                raise Conflict(refusal.error, refusal.remedy, built.lines) from None
            live = self._is_live(built, change)
            if live is not None:
                return answers.unchanged(built, live, self.publisher.nodes(), plan_name)
            await self._check_refused_before(built, change)
            plan = await self._plan(built, built.site.edge.rollout)
            opened = await self._count_open(built)
            return answers.dry(built, plan, opened, plan_name, self.publisher.nodes())
        async with self._my_turn(change):
            return await self._apply(change)

    async def _apply(self, change: Change) -> Answer:
        built = await self.build(change.document)
        self._reviewed(built, change)
        built = replace(built, document=marked(built.document, change.skipped))
        live = self._is_live(built, change)
        if live is not None:
            await self._note_moved_lines(built)
            await self.publisher.settle(timeout_s=change.timeout_s)
            return answers.unchanged(built, live, self.publisher.nodes())
        admit(self.live.site if self.live else None, built.site, change)
        await self._check_refused_before(built, change)
        # The same inventory again is what a newer compiler makes of it.
        kind: Kind = "compiler" if self.live is not None and built.id == self.live.id else "change"
        number = await asyncio.to_thread(self.ledger.keep, draft_of(built, change, kind), built)
        live = self.live
        async with self.hand.lent():
            failures, notes = await try_out(self.shadows, live.snapshots if live else {}, built.snapshots)
        if self.live is not None and self.live is not live:
            # Endpoints or material changed meanwhile: the edit is made of what is live now.
            try:
                built = replace(await self.build(change.document), document=built.document)
            except (ModelError, CompileError) as error:
                words = f"it is not possible any more beside what control changed meanwhile: {error}"
                await asyncio.to_thread(self.ledger.finish, number, "interrupted", words, change.author)
                raise
            draft = draft_of(built, change, kind)
            number = await asyncio.to_thread(self.ledger.keep_again, number, self.live.number, draft, built)
        if failures:
            answer = await self._refuse(built, number, change, failures)
            if change.skip_bad and change.plan:
                words = "skip_bad leaves nothing out of a plan that was reviewed: review what is left again"
                return replace(answer, notes=[*answer.notes, words])
            return await self._without_bad(change, answer) if change.skip_bad else answer
        answer = await self.publish(built, number, change, built.site.edge.rollout)
        return replace(answer, notes=[*answer.notes, *notes])

    async def _without_bad(self, change: Change, refused: Answer) -> Answer:
        """The change again, without what the shadow refuses of it; the refusal itself where that fails."""
        try:
            less, skipped = await leave_out(self, change, refused)
        except NotFound as error:
            return replace(refused, notes=[*refused.notes, f"skip_bad found nothing to leave out: {error}"])
        answer = await self._apply(less)
        return replace(answer, notes=[*map(str, skipped), *answer.notes])

    async def rollback(self, number: int, change: Change) -> Answer:
        """Bring back what revision `number` said, as a new revision. `change.document` is not looked at."""
        stored, values = await asyncio.to_thread(self.ledger.recall, number)
        if stored is None:
            raise Conflict(f"there is no revision {number}", "`xds-agent history` lists them")
        document = join_secrets(stored.document, values)
        reason = f"rollback to revision {number}" + (f": {change.reason}" if change.reason else "")
        # Whoever names a revision to return to has seen what it holds: removals are meant.
        allowed: tuple[str, ...] = ()
        if self.live is not None:
            target = await asyncio.to_thread(load_site, document)
            allowed = tuple(one.name for one in completeness.removals(self.live.site, target))
        return await self.apply(
            replace(change, document=document, reason=reason, commit=stored.commit, allow_removal=allowed)
        )

    def give_way(self) -> None:
        """This host leads no more. What is under way is taken back first: it may be long until somebody else
        leads, and publishes here."""
        if self.under_way is not None:
            self._publish_before()
        self.deposed.set()

    def words_of(self, refusal: Refused) -> str:
        """A refusal with the line of the inventory it comes from."""
        return placed(self.under_way.built if self.under_way else self.live, refusal)

    def holds(self, name: str) -> bool:
        """Whether the live revision names this host; before the first revision every proven name is held."""
        return self.live is None or name in self.live.site.hosts

    def who_applies(self) -> str:
        """Who is applying since when; empty when nobody is."""
        return self._queue.who

    # --- steps ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _my_turn(self, change: Change) -> AsyncIterator[None]:
        """One person at a time: the second is told who is ahead and with what, or waits as long as asked.
        Control's own updates are waited for."""
        why = f" ({change.reason})" if change.reason else ""
        who = f"{change.author}{why}, since {self.now():%H:%M:%S} UTC,"
        async with self._queue.turn(who, change.wait_s), self._turn, self.hand:
            yield

    def _reviewed(self, built: Built, change: Change) -> str:
        """The plan's name. Raises Conflict when another one was reviewed."""
        name = plan_of(self.live.document if self.live else None, built.document)
        check_plan(change.plan, name, self.live)
        return name

    async def build(self, document: Mapping[str, Any], *, serving: bool = False) -> Built:
        async with self.compiling:
            built = await asyncio.to_thread(self.builder.build, document, self.live, serving=serving)
        return built if serving else replace(built, lines=with_lines(self.live, built.lines))

    def _is_live(self, built: Built, change: Change) -> Live | None:
        """What is live, where nothing is to be done, or only what proxies have refused already."""
        live = self.live
        if live is None or built.id != live.id:
            return None
        to_do = live.behind is not None and (change.force or not live.behind.refused)
        return None if to_do else live

    async def _check_refused_before(self, built: Built, change: Change) -> None:
        """What was refused stays refused until it is another, or somebody insists."""
        # What is live was taken once; whether a newer compiler's bytes were refused is known beside it.
        if change.force or change.skip_bad or (self.live is not None and built.id == self.live.id):
            return
        last = await asyncio.to_thread(self.ledger.newest_of, built.id)
        if last is not None and last.outcome == "refused":
            raise Conflict(
                f"revision {last.number} held exactly this and was refused: {last.words}",
                "change what it names, or insist: -e force=true",
            )

    async def _plan(self, built: Built, rollout: Rollout, excused: Collection[str] = ()) -> WavePlan:
        old = self.live.snapshots if self.live else {}
        touched = [
            name for name, snapshot in built.snapshots.items()
            if name not in old or old[name].revision != snapshot.revision
        ]  # fmt: skip
        sick = await sick_before(self.publisher, self.vitals)
        if set(touched) - set(excused) - sick.keys():
            sick |= dict.fromkeys(excused, "it refused control's own update before this one")
        return plan_waves(
            rollout, touched, built.site.hosts, sick=sick,
            newcomers=built.snapshots.keys() - old.keys(),
        )  # fmt: skip

    async def _count_open(self, built: Built) -> list[dict[str, object]]:
        nodes = self.publisher.nodes().items()
        connected = [name for name, view in nodes if view.state != "offline"]
        sessions = sessions_by_listener(self.live.site if self.live else built.site)
        return await count_open(self.questions, built.closings, built.resets, sessions, connected)

    async def publish(
        self, built: Built, number: int, change: Change, rollout: Rollout = _AT_ONCE,
        excused: Collection[str] = (),
    ) -> Answer:  # fmt: skip
        """Through the waves, and either keep it everywhere or put back what was there. Nobody waits for the
        `excused`, as long as there are others."""
        plan = await self._plan(built, rollout, excused)
        touched = [name for wave in plan.waves for name in wave]
        release = Release(
            self.publisher, self.vitals, plan, old=self.live.snapshots if self.live else {},
            new=built.snapshots, number=number, author=change.author, timeout_s=change.timeout_s,
            on_progress=self._on_progress, pause=self.hand.lent,
            rounds=self._rounds(built) if rollout is not _AT_ONCE else None,
        )  # fmt: skip
        under_way = self.under_way = UnderWay(built, release)
        try:
            failures = await while_leading(release.run(), self.deposed)
            # It may have been made anew by something that did not wait for it.
            built = under_way.built
            if failures:
                nodes = self.publisher.nodes()
                await self._put_back(change, touched)
                answer = await self._refuse(built, number, change, failures)
                return replace(answer, nodes=nodes, notes=[*answer.notes, *release.notes])
            behind = self._still_behind(built)
            try:
                await asyncio.to_thread(
                    self.ledger.finish, number, "live", "", change.author,
                    served_=(behind.compiler if behind else self.compiler, built.snapshots),
                )  # fmt: skip
            except StoreError:
                # What cannot be remembered as live must not stay so: the next boot serves the one before.
                await self._put_back(change, touched)
                raise
        except BaseException:
            # Whatever went wrong on the way, no proxy stays between two revisions.
            self._publish_before()
            raise
        finally:
            self.progress = self.under_way = None
        self.live = replace(built.live(number), behind=behind)
        self.left_out = {**plan.left_out, **release.tolerated}
        self.trouble = ""
        # Now also those that were left out, and without those that are gone.
        self.show(built.snapshots, number)
        return answers.live(built, number, plan, release, self.publisher.nodes())

    def _still_behind(self, built: Built) -> Behind | None:
        """After an update of control's own, which leaves a newer compiler's part to the waves."""
        if self.live is None or same(built.snapshots, built.compiled.snapshots()):
            return None
        return self.live.behind

    def _rounds(self, built: Built) -> Rounds | None:
        """Requests through the canaries; of the first revision there is no before to compare with."""
        if self.ask_canary is None or self.live is None:
            return None
        live = self.live
        return Rounds(self.ask_canary, live.site, built.site, live.snapshots, built.snapshots)

    async def _on_progress(self, progress: Progress, evidence: str) -> None:
        self.progress = progress
        told = progress.audited(evidence)
        if told is not None:
            action, detail = told
            await asyncio.to_thread(self.ledger.note, action, progress.number, progress.author, detail)

    async def _refuse(self, built: Built, number: int, change: Change, failures: Sequence[Failure]) -> Answer:
        """Say why, and remember it."""
        before = self.live
        problems = problems_of(built, before, failures)
        words = "; ".join(problem.render() for problem in problems)
        log.warning("revision %d was refused: %s", number, words)
        await asyncio.to_thread(self.ledger.finish, number, "refused", words, change.author)
        of_this = before is not None and built.id == before.id and self._still_behind(built) is None
        if before is not None and before.behind is not None and of_this:
            behind = taken_back(before.behind, failures, words)
            if behind.refused:
                await asyncio.to_thread(self.ledger.note_refused, self.compiler, behind.refused)
            self.live = replace(before, behind=behind)
        return answers.refused(built, number, before, problems, self.publisher.nodes())

    async def _put_back(self, change: Change, touched: Collection[str]) -> None:
        """Publish again what was live before, and wait for those that may hold something else."""
        self._publish_before()
        if self.live is not None:
            await self.publisher.settle(timeout_s=min(change.timeout_s, REVERT_TIMEOUT_S), names=touched)

    def _publish_before(self) -> None:
        before = self.live
        self.show(before.snapshots if before else {}, before.number if before else 0)

    def show(self, snapshots: Mapping[str, Snapshot], number: int) -> None:
        """Publish, unless somebody else may lead."""
        if not self.deposed.is_set():
            self.publisher.publish(snapshots, number)

    async def _note_moved_lines(self, built: Built) -> None:
        """The same content on other lines: remember where, so that later refusals point there."""
        live = self.live
        assert live is not None
        if all(built.document.get(key) == live.document.get(key) for key in ("origins", SKIPPED)):
            return
        await asyncio.to_thread(self.ledger.move_lines, live.number, built.document)
        self.live = replace(live, document=built.document, site=built.site)
