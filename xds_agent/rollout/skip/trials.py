"""Asks the shadow which parts of a refused change are bad."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xds_agent.compile import CompileError
from xds_agent.model import ModelError
from xds_agent.rollout.build import Built
from xds_agent.rollout.shadow import Shadows
from xds_agent.rollout.skip.parts import Document, Part, Skipped, parts_of, path_of, without
from xds_agent.rollout.skip.search import Found, Verdict, search
from xds_agent.snapshot.resource import Snapshot

log = logging.getLogger(__name__)

# Each trial that is refused costs a new shadow: beyond so many the change as a whole is what is wrong.
TRIALS_MOST = 200


class NotFound(Exception):
    """No part alone is to blame; the words say why."""


@dataclass
class Trials:
    """`run` once: what of `new` a shadow takes, going from `old`."""

    shadows: Shadows
    build: Callable[[Document], Awaitable[Built]]
    old: Document
    new: Document
    live: Mapping[str, Snapshot]
    _words: dict[frozenset[Part], str] = field(init=False, default_factory=dict)

    async def run(self, refused: str) -> tuple[dict[str, Any], list[Skipped]]:
        """The document without its bad parts, and these. `refused` is what the shadow said of the whole.

        Raises NotFound.
        """
        parts = parts_of(self.old, self.new)
        self._words[frozenset(parts)] = refused
        if await self._try(frozenset(), parts) is not Verdict.ACCEPTED:
            raise NotFound("what is refused is in no service, domain, route or certificate of its own")
        found = await self._search(parts)
        skipped = [self._skipped(part, *shown) for part, shown in found.bad.items()]
        return without(self.old, self.new, found.bad.keys()), skipped

    async def _search(self, parts: list[Part]) -> Found[Part]:
        steps = search(parts)
        verdict: Verdict | None = None
        for _ in range(TRIALS_MOST):
            try:
                # The first `send` starts it, and takes nothing.
                trial = steps.send(verdict)  # type: ignore[arg-type]
            except StopIteration as done:
                found: Found[Part] = done.value
                return found
            verdict = await self._try(trial, parts)
        raise NotFound(f"after {TRIALS_MOST} trials not all of it was found")

    async def _try(self, taken: frozenset[Part], parts: list[Part]) -> Verdict:
        document = without(self.old, self.new, [part for part in parts if part not in taken])
        try:
            built = await self.build(document)
        except (ModelError, CompileError) as error:
            self._words[taken] = _first_line(error)
            return Verdict.DANGLING
        tried = await self.shadows.try_out(self.live, built.snapshots)
        if tried.refusals:
            self._words[taken] = next(iter(tried.refusals.values())).words
            return Verdict.REFUSED
        if tried.notes:
            raise NotFound(f"not every trial could be made: {'; '.join(tried.notes)}")
        # The next one starts where the shadow stands now.
        self.live = built.snapshots
        return Verdict.ACCEPTED

    def _skipped(self, part: Part, trial: frozenset[Part], verdict: Verdict) -> Skipped:
        path = path_of(self.old, self.new, part)
        origins = (self.old if part.gone else self.new).get("origins") or {}
        words = self._words[trial]
        if verdict is Verdict.DANGLING:
            words = f"it does not stand without what is left out: {words}"
        elif part.gone:
            words = f"it cannot go: {words}"
        return Skipped(path, origins.get(f"edge.{path}", ""), words)


def _first_line(error: ModelError | CompileError) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
