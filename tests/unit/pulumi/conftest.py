"""The cloud programs are on the path; what needs Pulumi itself runs in pulumi/.venv (script/test does it)."""

from __future__ import annotations

import sys
from pathlib import Path

PULUMI = Path(__file__).parents[3] / "pulumi"
for folder in (PULUMI / "policy", PULUMI):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
