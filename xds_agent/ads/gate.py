"""Admission to control's gRPC server, and the end of it: identity, revocation, expiry.

Failed handshakes never reach Python and gRPC lets a stream outlive its certificate, so every RPC is checked
when it opens, and a timer closes what was revoked or has expired since.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from xds_agent.ads.identity import IdentityError, Peer, peer_of
from xds_agent.ads.revocations import Revocations, Revoked, Unknowable

log = logging.getLogger(__name__)

LOOK_S = 1.0
_CACHED_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """One peer that was turned away or cut off, for the audit."""

    peer: str
    identity: str | None
    serial: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    peer: Peer
    address: str
    close: Callable[[str], None]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Gate:
    """Decides who may open an RPC and closes it when that stops being true."""

    def __init__(
        self, trust_domain: str, revocations: Revocations, *,
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
        on_seen: Callable[[str, str, dt.datetime], None] = lambda name, serial, until: None,
        now: Callable[[], dt.datetime] = _now,
    ) -> None:  # fmt: skip
        self._trust_domain = trust_domain
        self._revocations = revocations
        self._on_refused = on_refused
        # Told of each certificate that was let in: whose, its serial number, its end.
        self._on_seen = on_seen
        self._now = now
        self._watched: set[_Watched] = set()
        self._peers: dict[bytes, Peer] = {}

    async def admit(self, context: Any) -> Peer:
        """The peer of this RPC; aborts the RPC (which raises) when it may not open one."""
        peer: Peer | None = None
        try:
            peer = self._peer(context.auth_context())
            self._revocations.reload()
            self._revocations.check(peer, self._now())
            if peer.not_after <= self._now():
                raise Revoked(f"the certificate of {peer.name} has expired")
        except (IdentityError, Revoked, Unknowable) as error:
            self._refused(context.peer(), peer, str(error))
            later = isinstance(error, Unknowable)
            status = grpc.StatusCode.UNAVAILABLE if later else grpc.StatusCode.PERMISSION_DENIED
            await context.abort(status, str(error))
            raise AssertionError("abort returns never") from error
        self._on_seen(peer.name, peer.serial_text, peer.not_after)
        return peer

    @contextmanager
    def watching(self, peer: Peer, address: str, close: Callable[[str], None]) -> Iterator[None]:
        """While the RPC runs: `close(words)` is called once if its certificate stops counting."""
        watched = _Watched(peer, address, close)
        self._watched.add(watched)
        try:
            yield
        finally:
            self._watched.discard(watched)

    async def run(self) -> None:
        """Look at the list and the clock every second, for as long as the server runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:
                log.exception("looking after open streams failed")

    def look(self) -> None:
        """Close what was revoked or has expired."""
        # Whether this or an admission just now read the new list: every stream is compared with it.
        self._revocations.reload()
        now = self._now()
        for watched in list(self._watched):
            peer = watched.peer
            if peer.not_after <= now:
                words = f"the certificate of {peer.name} has expired"
            elif self._revocations.is_revoked(peer):
                words = f"the certificate of {peer.name} (serial {peer.serial_text}) was revoked"
            else:
                continue
            self._watched.discard(watched)
            self._refused(watched.address, peer, words)
            watched.close(words)

    def _peer(self, properties: dict[str, list[bytes]]) -> Peer:
        pem = next(iter(properties.get("x509_pem_cert", ())), None)
        if pem is None:
            raise IdentityError("no client certificate was presented")
        known = self._peers.get(pem)
        if known is None:
            known = peer_of(pem, self._trust_domain)
            if len(self._peers) >= _CACHED_PEERS:
                self._peers.clear()
            self._peers[pem] = known
        return known

    def _refused(self, address: str, peer: Peer | None, words: str) -> None:
        log.warning("refused %s (%s): %s", address, peer.name if peer else "no name", words)
        self._on_refused(
            Refusal(address, peer.name if peer else None, peer.serial_text if peer else "", words)
        )
