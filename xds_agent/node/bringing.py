"""A revision and everything of this host that holds it: the journal, Envoy, the datapath.

It is live in all of them or, after a refusal by any, in none; what was live before is then live again.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from xds_agent.node.envoy_link import EnvoyLink, Refusal
from xds_agent.node.journal import Journal
from xds_agent.node.no_envoy import NoEnvoy
from xds_agent.protocol.assembly import Complete
from xds_agent.snapshot.resource import DATAPATH_TYPES, SHORT, Snapshot

if TYPE_CHECKING:
    from xds_agent.node.datapath import DatapathLink

log = logging.getLogger(__name__)

_NO_DATAPATH = (
    "this host has no datapath, and the revision holds services of XDP or protection: run site.yml, which "
    "brings role xdp to hosts of group l4 with xdp_interfaces"
)


class Bringing:
    """Brings complete revisions, one at a time."""

    def __init__(
        self, journal: Journal, envoy: EnvoyLink | NoEnvoy, datapath: DatapathLink | None, admin_socket: Path
    ) -> None:
        self._admin_socket = admin_socket
        self._journal = journal
        self._envoy = envoy
        self._datapath = datapath

    async def bring(self, complete: Complete) -> Refusal | None:
        """To the journal, Envoy and the maps; None once it is live in all, else why it is in none."""
        try:
            return await self._bring(complete)
        except Exception as error:
            # An agent that ends by it would be started again, and be offered the same again.
            log.exception("revision %s met a bug of this agent", complete.snapshot.revision)
            return await self._all_back(Refusal("", (), f"this agent cannot take it: {error!r}"))

    async def _bring(self, complete: Complete) -> Refusal | None:
        target = complete.snapshot
        if self._datapath is None and _has_datapath(target):
            return Refusal("", (), _NO_DATAPATH)
        refusal = await self._precheck(target)
        if refusal is not None:
            return refusal
        try:
            synced = await self._journal.prepare(target, complete.changed)
        except OSError as error:
            return Refusal("", (), f"the node's journal cannot take it: {error}")
        refusal = await self._live(complete)
        try:
            await synced
            if refusal is None:
                self._journal.commit()
        except OSError as error:
            if refusal is None:
                return await self._all_back(Refusal("", (), f"the node's journal cannot take it: {error}"))
        if refusal is not None:
            self._journal.abandon()
        return refusal

    async def _precheck(self, target: Snapshot) -> Refusal | None:
        """What no shadow can know of this host."""
        from xds_agent.node import precheck

        held = self._envoy.core.held
        if isinstance(self._envoy, NoEnvoy) or not precheck.needed(held, target):
            return None
        envoy = await asyncio.to_thread(precheck.peer_of, str(self._admin_socket))
        return await asyncio.to_thread(precheck.check, held, target, precheck.Host(envoy))

    async def _live(self, complete: Complete) -> Refusal | None:
        """Envoy first: what moves from it to XDP is drained there, what moves to it is awaited there."""
        refusal = await self._envoy.apply(complete.snapshot, complete.changed)
        if refusal is not None or self._datapath is None:
            return refusal
        if not any(complete.changed.get(type_url) for type_url in DATAPATH_TYPES):
            return None
        refusal = await self._datapath.apply(complete.snapshot)
        return None if refusal is None else await self._envoy_back(refusal)

    async def _all_back(self, refusal: Refusal) -> Refusal:
        """To the set that is on disk, whatever was brought to whom by now."""
        self._journal.abandon()
        if self._envoy.core.held is not self._journal.snapshot:
            refusal = await self._envoy_back(refusal)
        if self._datapath is not None:
            await self._datapath.go_back(self._journal.snapshot)
        return refusal

    async def _envoy_back(self, refusal: Refusal) -> Refusal:
        """Envoy took what another part then would not: back to the set that is on disk."""
        failure = await self._envoy.apply(self._journal.snapshot)
        if failure is None:
            return refusal
        words = f"{refusal.words}; taking Envoy back failed too: {sentence(failure)}"
        return Refusal(refusal.type_url, refusal.names, words)


def sentence(refusal: Refusal) -> str:
    """A refusal for people."""
    if not refusal.names:
        return refusal.words
    return f"{SHORT.get(refusal.type_url, 'resource')} {', '.join(refusal.names)}: {refusal.words}"


def _has_datapath(snapshot: Snapshot) -> bool:
    return any(snapshot.of_type(type_url) for type_url in DATAPATH_TYPES)
