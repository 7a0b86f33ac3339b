"""What property values are made of: unknowns, and places inside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# The protocol's word for "known only after it has been made".
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def is_known(value: Any) -> bool:
    """Whether nothing inside ``value`` is still unknown."""
    return all(text != UNKNOWN for text in strings(value))


def strings(value: Any) -> Iterator[str]:
    """Every string inside ``value``."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def at(value: Any, path: str) -> Iterator[Any]:
    """The values at ``path`` ("networkInterfaces[].subnetwork"); none where a part is missing."""
    head, _, rest = path.partition(".")
    each = head.endswith("[]")
    if not isinstance(value, dict) or value.get(head.removesuffix("[]")) is None:
        return
    found = value[head.removesuffix("[]")]
    for inner in found if each and isinstance(found, list) else [found]:
        if rest:
            yield from at(inner, rest)
        else:
            yield inner


def first(value: Any, path: str, default: Any = None) -> Any:
    """The first value at ``path``."""
    return next(at(value, path), default)


def whole(value: Any) -> Any:
    """``value`` with whole floats as integers: the protocol has doubles only, and states must be equal."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(inner) for key, inner in value.items()}
    return [whole(inner) for inner in value] if isinstance(value, list) else value
