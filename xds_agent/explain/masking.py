"""Values that came from a vault never reach a text, wherever in the inventory they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from xds_agent.model import Site

_HIDDEN = "(secret)"
_FIELD = re.compile(r"[^.\[]+")


def masker(sites: Iterable[Site | None]) -> Callable[[str], str]:
    """A function that replaces every vault value of the sites in a text."""
    values: set[str] = set()
    for site in sites:
        if site is None:
            continue
        for path in getattr(site, "secret_paths", ()):
            values |= set(_texts(_resolve(site, path)))
    if not values:
        return lambda text: text
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    # A short secret ("1") must not blank out parts of other words.
    pattern = re.compile(
        "|".join(rf"(?<!\w){re.escape(v)}(?!\w)" if len(v) < 4 else re.escape(v) for v in longest_first)
    )
    return lambda text: pattern.sub(_HIDDEN, text)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _resolve(site: Site, path: str) -> Any:
    """The value at 'edge.services[shop].auth.tokens.x' or 'hosts.edge1.address'; None where there is none."""
    head, _, rest = path.partition(".")
    if head == "edge":
        return _down(site.edge, f".{rest}")
    return _down(site.hosts, f".{rest}") if head == "hosts" else None


def _down(node: Any, rest: str) -> Any:
    if not rest:
        return node
    if rest[0] == "[":
        end = rest.find("]")
        label = rest[1:end]
        for index, item in enumerate(node if isinstance(node, tuple) else ()):
            if getattr(item, "name", None) == label or str(index) == label:
                return _down(item, rest[end + 1 :])
        return None
    rest = rest[1:]
    if isinstance(node, BaseModel):
        match = _FIELD.match(rest)
        return _down(getattr(node, match[0], None), rest[match.end() :]) if match else None
    if isinstance(node, Mapping):
        # Keys may hold dots: the longest that fits is meant.
        for key in sorted(node, key=lambda one: -len(str(one))):
            text = str(key)
            if rest.startswith(text) and rest[len(text) : len(text) + 1] in ("", ".", "["):
                return _down(node[key], rest[len(text) :])
    return None
