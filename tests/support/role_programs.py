"""Programs that roles bring to hosts, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROLES = Path(__file__).resolve().parents[2] / "roles"


def program(role: str, file: str) -> ModuleType:
    """``roles/ROLE/files/FILE``, as the host would start it."""
    spec = importlib.util.spec_from_file_location(
        f"marchproxy_{Path(file).stem}", ROLES / role / "files" / file
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    # What lies beside it is found, as where it is started.
    sys.path.insert(0, str(ROLES / role / "files"))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
