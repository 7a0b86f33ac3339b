"""A site document after everything that can be done to it without changing anything."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xds_agent.compile import Compiled, CompileError, Compiler, Material
from xds_agent.explain.changes import Changes, describe
from xds_agent.explain.closings import Closing
from xds_agent.explain.resets import Reset
from xds_agent.model import Maintenance, Site, load_site, split_secrets
from xds_agent.rollout import material
from xds_agent.rollout.material import Prepared, SiteCa
from xds_agent.rollout.windows import joined, left_alone
from xds_agent.snapshot.resource import Snapshot
from xds_agent.steering.budget import probe_problems
from xds_agent.steering.deciding import UNDECIDED, Decisions
from xds_agent.steering.site import Scene, scene_of
from xds_agent.store import Store, certificates, denials, secrets
from xds_agent.store.revisions import content_id

Decide = Callable[[Site, dt.datetime], tuple[Scene, Decisions]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behind:
    """Proxies hold what `compiler`, an older one, made of the live revision; `lines` say what this one makes
    otherwise, `refused` why proxies did not take it, `missed` why it did not stay though none refused it."""

    compiler: str
    lines: tuple[Mapping[str, Any], ...] = ()
    refused: str = ""
    missed: str = ""

    @property
    def words(self) -> str:
        """For people."""
        held = f"proxies hold what compiler {self.compiler} made of the inventory"
        if not self.refused:
            missed = f"; it is tried again, the last time it was taken back: {self.missed}"
            return f"{held}; what this version makes of it follows in waves{missed if self.missed else ''}"
        return (
            f"{held}; what this version makes of it was refused: {self.refused}; "
            "go back to the version before, or insist: -e force=true"
        )

    def as_dict(self) -> dict[str, str]:
        """Without the lines, which every change tells before it."""
        return {
            "compiler": self.compiler, "refused": self.refused, "missed": self.missed, "words": self.words,
        }  # fmt: skip


@dataclass(frozen=True)
class Live:
    """What is served: one stored revision and all that was made of it."""

    number: int
    id: str
    document: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    site: Site
    material: Material
    compiled: Compiled
    snapshots: Mapping[str, Snapshot]
    scene: Scene
    decisions: Decisions
    # Set while `snapshots` are not what `compiled` has.
    behind: Behind | None = None


@dataclass(frozen=True)
class Built:
    """Validated, compiled, compared with what is live, and said in words."""

    id: str
    document: Mapping[str, Any]
    values: Mapping[str, str]
    fingerprints: Mapping[str, str]
    site: Site
    prepared: Prepared
    compiled: Compiled
    snapshots: Mapping[str, Snapshot]
    lines: Sequence[Mapping[str, Any]]
    summary: str
    scene: Scene
    decisions: Decisions
    closings: Sequence[Closing] = ()
    resets: Sequence[Reset] = ()

    def live(self, number: int) -> Live:
        """What is served once this is stored revision `number`."""
        return Live(
            number=number, id=self.id, document=self.document, fingerprints=self.fingerprints,
            site=self.site, material=self.prepared.material, compiled=self.compiled,
            snapshots=self.snapshots, scene=self.scene, decisions=self.decisions,
        )  # fmt: skip


def same(one: Mapping[str, Snapshot], other: Mapping[str, Snapshot]) -> bool:
    """Whether every host holds the same by both."""
    return {n: s.revision for n, s in one.items()} == {n: s.revision for n, s in other.items()}


class Builder:
    """Builds, one document at a time; the compiler remembers services that did not change."""

    def __init__(self, store: Store, ca: SiteCa, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._ca = ca
        self._now = now
        self._compiler = Compiler()
        # Answers of pending ACME orders; whoever sets them calls Pipeline.refresh.
        self.challenges: Mapping[str, bytes] = {}
        # Where requests go; whoever decides that puts itself here.
        self.decide: Decide = _undecided
        # Maintenance opened by hand; whoever keeps it puts it here.
        self.windows: tuple[Maintenance, ...] = ()

    def build(self, document: Mapping[str, Any], old: Live | None, *, serving: bool = False) -> Built:
        """Raises ModelError or CompileError with every problem. Blocks; run it in a thread.

        `serving`: the document is live already, see `material.prepare`.
        """
        now = self._now()
        site = joined(load_site(document), self.windows, now)
        lonely = [] if serving else list(left_alone(site, site.edge.maintenance, now))
        without, values = split_secrets(document)
        prints = secrets.fingerprints(self._store.sealer, values)
        with self._store.read() as session:
            held = certificates.load(session, self._store.sealer)
            by_hand = denials.current(session, now)
        prepared = material.prepare(
            site, self._ca, held, now=now, serving=serving, challenges=self.challenges
        )
        for fault in prepared.faults:
            log.error("served all the same: %s", fault.render())
        scene, decisions = self.decide(site, now)
        lonely = [replace(one, origin=site.origin(one.path)) for one in lonely]
        unable = probe_problems(scene)
        if (problems := [*unable, *lonely]) and not serving:
            raise CompileError(problems)
        denied = tuple((one.network, int(one.until.timestamp())) for one in by_hand)
        prepared = replace(prepared, material=replace(prepared.material, denied=denied))
        compiled = self._compiler.compile(site, prepared.material, now=now, decisions=decisions)
        snapshots = compiled.snapshots()
        changes = describe(old.site if old else None, site, old.snapshots if old else None, snapshots)
        return Built(
            id=content_id(without, prints),
            document=without,
            values=values,
            fingerprints=prints,
            site=site,
            prepared=prepared,
            compiled=compiled,
            snapshots=snapshots,
            scene=scene,
            decisions=decisions,
            lines=_lines(changes),
            summary=changes.summary,
            closings=changes.closings,
            resets=changes.resets,
        )

    def place(self, live: Live, decisions: Decisions) -> Compiled:
        """What is live, with other decisions. Blocks; run it in a thread."""
        return self._compiler.compile(live.site, live.material, now=self._now(), decisions=decisions)


def _undecided(site: Site, _now: dt.datetime) -> tuple[Scene, Decisions]:
    return scene_of(site), UNDECIDED


def _lines(changes: Changes) -> list[dict[str, Any]]:
    return [{"proxies": list(line.proxies), "text": line.text} for line in changes.lines]
