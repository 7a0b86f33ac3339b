"""A change on the shadows, before any proxy sees it, told as a wave would tell it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from xds_agent.protocol.outcomes import Refused
from xds_agent.rollout.release import Failure
from xds_agent.rollout.shadow import Shadows
from xds_agent.snapshot.resource import Snapshot

log = logging.getLogger(__name__)


async def try_out(
    shadows: Shadows | None, old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]
) -> tuple[list[Failure], list[str]]:
    """What the shadows refuse, and notes of what they could not try."""
    if shadows is None:
        return [], ["no shadow: serve.yml names no Envoy on which changes are tried first"]
    try:
        tried = await shadows.try_out(old, new)
    except OSError as error:
        log.exception("the shadows failed")
        return [], [f"no shadow: {error}"]
    failures = []
    for name, refusal in sorted(tried.refusals.items()):
        said = Refused(name, "", refusal.type_url, refusal.names, refusal.words)
        failures.append(Failure(f"the shadow of {name}", refusal.words, said))
    return failures, list(tried.notes)
