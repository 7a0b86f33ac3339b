"""In place of EnvoyLink on hosts of the L4 tier alone: nobody to bring anything to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds_agent.node.envoy_link import Refusal
from xds_agent.snapshot.resource import Snapshot

STATE = "NONE"


class NoEnvoy:
    """Takes every set at once. `state` never changes; `core` is itself, as far as the agent asks it."""

    state = STATE
    resources_sent = 0

    def __init__(self, held: Snapshot) -> None:
        self.held = held

    @property
    def core(self) -> NoEnvoy:
        return self

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def apply(
        self, target: Snapshot, changed: Mapping[str, Iterable[str]] | None = None
    ) -> Refusal | None:
        """Held from now on."""
        self.held = target
        return None
