"""Which compiler this is: what a newer one makes of the same inventory reaches proxies as any edit does."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xds_agent

# All that the bytes of a resource depend on, beside the inventory: our own packages, and others' libraries.
_PACKAGES = ("model", "compile", "proto", "snapshot", "steering")
_LIBRARIES = ("protobuf", "pydantic", "xds-protos")


@functools.cache
def compiler_name() -> str:
    """`VERSION+HASH` of this process; two that are equal make equal bytes of equal input."""
    root = Path(xds_agent.__file__).parent
    found = hashlib.blake2b(digest_size=6)
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            found.update(f"{path.relative_to(root).as_posix()}\0".encode())
            found.update(path.read_bytes())
    for library in _LIBRARIES:
        found.update(f"{library} {_version(library)}\0".encode())
    return f"{xds_agent.__version__}+{found.hexdigest()}"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
