"""Control's real gRPC server and core in this process, with a wait for what nodes answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.support.ports import free_port
from tests.support.site_pki import TRUST_DOMAIN, SitePki
from xds_agent.ads.control import ControlServer, ServerSettings, serve
from xds_agent.ads.gate import Refusal
from xds_agent.protocol.control import Acknowledged, ControlCore, Refused
from xds_agent.snapshot.resource import Snapshot


class Control:
    """One control host. `publish` sends sets; `answer` waits until a node acknowledged or refused one."""

    def __init__(self, pki: SitePki, *, port: int = 0, name: str = "control1") -> None:
        self.pki = pki
        self.own = pki.host(name)
        # Not the kernel's choice: it is started again on it.
        self.port = port or free_port()
        self.core = ControlCore(on_outcome=self._note)
        self.outcomes: list[Any] = []
        self.reports: list[tuple[str, Any]] = []
        self.refusals: list[Refusal] = []
        self.server: ControlServer | None = None
        self._news = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        own = self.own
        settings = ServerSettings(
            "127.0.0.1", self.port, TRUST_DOMAIN, own.certificate, own.key, own.ca, own.crl
        )
        self.server = await serve(
            self.core, settings, on_report=lambda *said: self.reports.append(said),
            on_refused=self.refusals.append, issuer=self.pki.issuer,
        )  # fmt: skip

    async def stop(self, grace_s: float = 0.2) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop(grace_s)

    def publish(self, snapshots: Mapping[str, Snapshot]) -> None:
        assert self.server is not None
        self.server.carry_out(self.core.publish(dict(snapshots)))

    async def until(
        self, kind: Any, *, node: str, revision: str = "", since: int = 0, patience_s: float = 30.0
    ) -> Any:
        """The newest outcome of this kind for the node (and revision), from number `since` on, waited for."""
        async with asyncio.timeout(patience_s):
            while True:
                for outcome in reversed(self.outcomes[since:]):
                    right = isinstance(outcome, kind) and outcome.node == node
                    if right and (not revision or outcome.revision == revision):
                        return outcome
                self._news.clear()
                await self._news.wait()

    async def answer(self, node: str, snapshot: Snapshot, *, since: int = 0, patience_s: float = 30.0) -> Any:
        """Acknowledged or Refused for this very set."""
        kinds = (Acknowledged, Refused)
        return await self.until(
            kinds, node=node, revision=snapshot.revision, since=since, patience_s=patience_s
        )

    async def apply(self, node: str, snapshot: Snapshot, patience_s: float = 30.0) -> Any:
        """Publish to one node alone and wait for its answer."""
        since = len(self.outcomes)
        self.publish({node: snapshot})
        return await self.answer(node, snapshot, since=since, patience_s=patience_s)

    def _note(self, outcome: Any) -> None:
        self.outcomes.append(outcome)
        self._news.set()
