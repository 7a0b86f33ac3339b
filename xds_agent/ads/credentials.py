"""gRPC credentials made from files that are renewed in place, without a restart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

log = logging.getLogger(__name__)


class RenewedFiles:
    """Contents of a few files, read again once any of them changed on disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._seen: tuple[tuple[int, int, int], ...] = ()

    def changed(self) -> bool:
        """True the first time and after each change. Raises OSError for a file that is missing."""
        seen = []
        for path in self._paths:
            status = path.stat()
            seen.append((status.st_ino, status.st_mtime_ns, status.st_size))
        if tuple(seen) == self._seen:
            return False
        self._seen = tuple(seen)
        return True

    def read(self) -> list[bytes]:
        return [path.read_bytes() for path in self._paths]


def server_credentials(certificate: Path, key: Path, ca: Path) -> grpc.ServerCredentials:
    """mTLS credentials that every new handshake takes from the files as they then are.

    Raises OSError when a file cannot be read now. Later, files that cannot be read (or do not pair, in the
    moment between two renames) leave the configuration as it was.
    """
    files = RenewedFiles((key, certificate, ca))
    files.changed()

    def load() -> Any:
        key_pem, chain_pem, ca_pem = files.read()
        return grpc.ssl_server_certificate_configuration([(key_pem, chain_pem)], root_certificates=ca_pem)

    def fetch() -> Any:
        try:
            return load() if files.changed() else None
        except OSError as error:
            log.error("the server's certificate could not be read again: %s", error)
            return None

    return grpc.dynamic_ssl_server_credentials(load(), fetch, require_client_authentication=True)


def channel_credentials(certificate: Path, key: Path, ca: Path) -> grpc.ChannelCredentials:
    """Credentials of a client from its files as they are now. Raises OSError."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes(),
        certificate_chain=certificate.read_bytes(),
    )
