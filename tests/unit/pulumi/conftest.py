"""Tests of the cloud programs; they run in pulumi/.venv, where Pulumi is (script/test does it)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PULUMI = Path(__file__).parents[3] / "pulumi"
sys.path.insert(0, str(PULUMI))

pytest.importorskip("pulumi.runtime", reason="Pulumi lives in an environment of its own: pulumi/.venv")
