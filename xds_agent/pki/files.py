"""Certificate files on a host: read for their dates, replaced so that no reader ever sees half of one."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from pathlib import Path

from cryptography import x509


def leaf_of(path: Path) -> x509.Certificate:
    """First certificate of a PEM file. Raises OSError, or ValueError where there is none."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def renewal_due(leaf: x509.Certificate, now: dt.datetime) -> bool:
    """True from two thirds of the certificate's life on."""
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return now >= leaf.not_valid_before_utc + life * 2 / 3


def replace_files(contents: dict[Path, tuple[bytes, int]]) -> None:
    """Write each file (content, mode) beside its place and fsync, then rename all of them into place.

    Owner and group stay those of the file replaced. Raises OSError with nothing replaced when the disk is
    full: every byte is on disk before the first rename.
    """
    written: list[tuple[Path, Path]] = []
    try:
        for path, (content, mode) in contents.items():
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            written.append((Path(name), path))
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                if path.exists() and os.geteuid() == 0:
                    owner = path.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in written:
            temporary.replace(path)
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)
