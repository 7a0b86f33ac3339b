"""A little room set aside on the database's disk, so that a control host starts although it is full.

SQLite cannot even read without room for its shared-memory and journal files; after a reboot they are gone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SIZE_BYTES = 256 * 1024


def hold(database: Path) -> None:
    """Set the room aside, if there is any."""
    path = _path(database)
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_blocks * 512 >= SIZE_BYTES:
            return
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, SIZE_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def give_up(database: Path) -> bool:
    """Free the room; False when there was none."""
    try:
        _path(database).unlink()
    except OSError:
        return False
    return True


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}.reserve")
