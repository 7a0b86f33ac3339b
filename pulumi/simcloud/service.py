"""What machines ask a cloud over HTTP, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One HTTP request. ``headers`` have small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    source: str


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    body: str
    kind: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
