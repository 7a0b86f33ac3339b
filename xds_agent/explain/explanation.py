"""What a request would meet, as values: steps, the verdict, and where the inventory says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["forwarded", "redirected", "answered", "refused", "nothing", "not judged"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the request meets on its way: a listener, a chain, a route, a cluster."""

    kind: str
    name: str
    text: str = ""
    path: str = ""
    """Path inside the inventory that says so; empty where nothing in it does."""
    origin: str | None = None
    """File, line and column of that path."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One endpoint, in the order Envoy would use them: priority 0 first."""

    address: str
    priority: int
    place: str
    weight: int
    share: int = 100
    """Percent of the requests that go to its cluster."""
    cluster: str = ""
    health: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The same for every proxy in `proxies`."""

    proxies: tuple[str, ...]
    request: str
    verdict: Verdict
    sentence: str
    status: int | None = None
    """Status code where the edge itself answers; None where a backend does or nobody."""
    steps: tuple[Step, ...] = ()
    backends: tuple[Backend, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
