"""One thing said about a change, before it is known which proxies it reaches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence, where in the inventory it comes from, and whom it concerns."""

    text: str
    path: str
    """Path inside the inventory: 'services[shop].health.interval'."""
    tenants: frozenset[str] | None = None
    """Only proxies that carry one of these are reached; None: any proxy."""
    services: frozenset[str] = frozenset()
    """Services whose requests are treated differently (for the count in the summary)."""
    reaches_proxies: bool = True
    """False: words for people, plans for later, or hosts that are no proxies."""


def tenants(*names: str) -> frozenset[str]:
    return frozenset(names)


def plural(count: int, word: str, many: str = "") -> str:
    """'1 proxy', '2 proxies', '0 services'."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {many or (word[:-1] + 'ies' if word.endswith('y') else word + 's')}"


def listed(words: Iterable[str], *, limit: int = 8) -> str:
    """'a, b and c', and how many more there are beyond `limit`."""
    items = list(words)
    if len(items) > limit:
        return f"{', '.join(items[:limit])} and {len(items) - limit} more"
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
