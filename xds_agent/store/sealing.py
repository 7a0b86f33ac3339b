"""Encryption at rest: AES-256-GCM under a key file that never enters the database.

The ciphertext is bound to what it belongs to (associated data), so that a row copied over another one does
not open. Control hosts that share a PostgreSQL database share this file too.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(Exception):
    """A key file that cannot be used, or a ciphertext it does not open; the words say what to do."""


class Sealer:
    """Seals and opens values, and fingerprints them under the same key."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._print_key = hmac.digest(key, b"marchproxy fingerprint", sha256)

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """Load the key, making it (0600, fsynced) on first start.

        Raises SealError on a key of another length or one that others may read, OSError on I/O.
        """
        if not path.exists():
            _make_key(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise SealError(f"{path} may be read by others (mode {mode:04o}); run: chmod 0600 {path}")
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise SealError(f"{path} holds {len(key)} bytes, a key has {KEY_BYTES}; restore it from a backup")
        return cls(key)

    def seal(self, value: bytes, *, belongs_to: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, belongs_to.encode())

    def open(self, sealed: bytes, *, belongs_to: str) -> bytes:
        """Raises SealError when another key sealed it, or it is damaged."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], belongs_to.encode())
        except InvalidTag as error:
            raise SealError(
                f"the stored value of {belongs_to} was not sealed with this control host's secret.key; "
                "put the key file of the database's first control host in its place"
            ) from error

    def fingerprint(self, value: bytes) -> str:
        """Keyed hash, 128 bits as hex: equal for equal values, useless without the key."""
        return hmac.digest(self._print_key, value, sha256)[:16].hex()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # link, not rename: a second process starting at the same moment must not replace the first's key.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
