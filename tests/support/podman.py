"""The machine's podman, for what its own patience is too short for."""

from __future__ import annotations

import subprocess

TRIES = 3


def patiently(*words: str) -> None:
    """``podman WORDS``. It gives a killed host's last process five seconds, and says that it failed where a
    busy machine only took longer."""
    for tried in range(1, TRIES + 1):
        done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert tried < TRIES, f"podman {' '.join(words)}: {done.stderr}"
