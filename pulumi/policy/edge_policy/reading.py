"""Reading properties as clouds write them: ranges, ports, tags."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Props = Mapping[str, Any]

SSH_PORT = 22
_EVERYBODY = ("*", "internet", "any")


def items(value: Any) -> list[Any]:
    """``value`` as a list: itself, or empty. The engine's lists are sequences of Pulumi's own."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def mapping(value: Any) -> Props:
    """``value`` as a mapping: itself, or empty."""
    return value if isinstance(value, Mapping) else {}


def is_everybody(source: Any) -> bool:
    """Whether a source is the whole internet, or half of it."""
    text = str(source).lower()
    if text in _EVERYBODY:
        return True
    try:
        return ipaddress.ip_network(text, strict=False).prefixlen <= 1
    except ValueError:
        return False


def holds_port(spans: Iterable[Any], port: int) -> bool:
    """Whether one of the spans ('22', '20-30', '*') holds ``port``."""
    for span in spans:
        first, _, last = str(span).partition("-")
        if first == "*" or (first.isdigit() and int(first) <= port <= int(last or first)):
            return True
    return False


def tags_of(props: Props) -> Props:
    """Tags (AWS, Azure) or labels (Google Cloud) of a resource."""
    return {**mapping(props.get("labels")), **mapping(props.get("tags"))}
