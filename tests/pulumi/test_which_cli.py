"""Which Pulumi CLI script/pulumi takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.pulumi.conftest import ROOT


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("v3.259.0", None),
        ("v3.100.0", "is 3.100.0, and 3.252.0 or newer is needed"),
        ("", "does not say its version"),
    ],
)
def test_a_cli_that_is_too_old_is_refused_by_its_version(
    cli: str, tmp_path: Path, says: str, words: str | None
) -> None:
    own = tmp_path / "pulumi"
    own.write_text(f"#!/bin/sh\necho {says}\n")
    own.chmod(0o755)
    done = subprocess.run(
        [ROOT / "script" / "pulumi", "--prepare"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == ((0, str(own)) if words is None else (1, ""))
    assert words is None or words in done.stderr
