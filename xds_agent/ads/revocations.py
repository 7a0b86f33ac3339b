"""The revocation list as the server at control consults it: read again whenever its file changes.

Decision: a list that is missing, unreadable or past its nextUpdate refuses every *new* stream (UNAVAILABLE,
so that the node tries the next control host): without a fresh list nobody can say that a certificate still
counts. Streams that are open stay, for they were checked against a fresh list, and proxies keep serving
from their journals either way. Only the age of the list of the leaf's own issuer counts: the offline root
re-signs its own rarely, but whom it revokes is revoked.
"""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

from xds_agent.ads.identity import Peer
from xds_agent.pki.revocation import lists_of

log = logging.getLogger(__name__)


class Revoked(Exception):
    """The certificate is on the list; final."""


class Unknowable(Exception):
    """No fresh list says whether the certificate still counts; try again later or elsewhere."""


class Revocations:
    """Serial numbers of `path` (PEM, one list per authority); `path` None means that none are kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._until: dict[bytes, dt.datetime] = {}  # issuer's name -> nextUpdate of its list
        self._revoked: dict[bytes, frozenset[int]] = {}
        self._words = ""
        self.reload()

    def reload(self) -> bool:
        """Read the file if it changed; True if it did. An unreadable file keeps what is revoked."""
        if self._path is None:
            return False
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            lists = lists_of(self._path.read_bytes())
        except (OSError, ValueError) as error:
            if self._words != str(error):
                log.error("revocation list %s: %s", self._path, error)
            self._words, self._until, self._seen = str(error), {}, None
            return False
        self._seen, self._words = seen, ""
        self._until = {
            crl.issuer.public_bytes(): crl.next_update_utc for crl in lists if crl.next_update_utc is not None
        }
        self._revoked = {
            crl.issuer.public_bytes(): frozenset(entry.serial_number for entry in crl) for crl in lists
        }
        return True

    def is_revoked(self, peer: Peer) -> bool:
        """Whether the list of the peer's issuer names its serial number."""
        return peer.serial in self._revoked.get(peer.issuer, frozenset())

    def check(self, peer: Peer, now: dt.datetime) -> None:
        """Raises Revoked or Unknowable when `peer` may not open a stream at `now`."""
        if self._path is None:
            return
        if self.is_revoked(peer):
            raise Revoked(f"the certificate of {peer.name} (serial {peer.serial_text}) is revoked")
        until = self._until.get(peer.issuer)
        if until is None:
            why = self._words or "it holds no list of the authority that issued this certificate"
            raise Unknowable(f"control cannot check revocation: {self._path.name}: {why}")
        if until <= now:
            raise Unknowable(
                f"control's revocation list went stale on {until:%Y-%m-%d %H:%M} UTC; control re-signs it, "
                "or run site.yml --tags pki"
            )
