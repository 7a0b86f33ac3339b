"""Differences between two values of one model, field by field, each in words: nothing is silently missing.

Fields that deserve better words get them elsewhere; whatever is left comes through here
("health.interval 1s -> 2s"), so a field added to the model tomorrow is already told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, SecretStr

from xds_agent.explain.said import listed
from xds_agent.model.quantities import format_duration

_LONGEST = 80
_HIDDEN = "(secret)"


def field_changes(
    old: BaseModel, new: BaseModel, *, skip: Collection[str] = (), prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """(path, words) for every field of two values of the same model that differs, in the model's order."""
    for name in type(new).model_fields:
        if name in skip:
            continue
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            shown = (_field(old, name), _field(new, name))
            yield from _changes(f"{prefix}{name}", before, after, shown)


def compact(value: BaseModel, *, skip: Collection[str] = ()) -> str:
    """What is set in a value, on one line: 'type http, path /healthz'; no secrets, no long texts."""
    parts = [
        f"{name} {in_words(_field(value, name))}"
        for name, field in type(value).model_fields.items()
        if name not in skip
        and (field.is_required() or getattr(value, name) != field.get_default(call_default_factory=True))
    ]
    return ", ".join(parts) or "defaults"


def in_words(value: Any) -> str:
    """A value of an inventory as a person would write it, never as JSON."""
    if value is None:
        return "nothing"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, BaseModel):
        return f"({compact(value)})"
    if isinstance(value, Mapping):
        return listed(f"{key} {in_words(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return listed(in_words(one) for one in value) or "none"
    if isinstance(value, str) and ("\n" in value or len(value) > _LONGEST):
        return "(long text)"
    if value == "":
        return '""'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _field(model: BaseModel, name: str) -> Any:
    """The field's value; quantities (sizes, bit rates) in the form the inventory writes them."""
    value = getattr(model, name)
    if isinstance(value, int) and not isinstance(value, bool):
        # Only the field's own serializer knows whether 1048576 is a count or 1MiB.
        return model.model_dump(mode="json", include={name})[name]
    return value


def _changes(path: str, before: Any, after: Any, shown: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(before, BaseModel) and type(before) is type(after):
        yield from field_changes(before, after, prefix=f"{path}.")
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _mapping(path, before, after)
    elif isinstance(before, tuple) and isinstance(after, tuple):
        yield from _tuple(path, before, after)
    elif isinstance(after, SecretStr) or isinstance(before, SecretStr):
        yield path, _secret_words(before, after)
    else:
        yield path, _arrow(*shown)


def _arrow(before: Any, after: Any) -> str:
    left, right = in_words(before), in_words(after)
    if left == right:
        return "changed (the text is too long to show)"
    if before is None:
        return f"set to {right}"
    if after is None:
        return f"no longer set (was {left})"
    return f"{left} -> {right}"


def _secret_words(before: Any, after: Any) -> str:
    if before is None:
        return "set (secret)"
    return "no longer set" if after is None else "new value (secret)"


def _mapping(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = False
    for key in (*before, *(key for key in after if key not in before)):
        place = f"{path}.{key}"
        if key not in after:
            found = True
            yield (
                place,
                "removed" if isinstance(before[key], SecretStr) else f"removed (was {in_words(before[key])})",
            )
        elif key not in before:
            found = True
            yield place, f"added: {in_words(after[key])}"
        elif before[key] != after[key]:
            found = True
            yield from _changes(place, before[key], after[key], (before[key], after[key]))
    if not found:
        yield path, "in another order"


def _tuple(path: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    labels = [[getattr(one, "name", None) for one in items] for items in (before, after)]
    if all(isinstance(label, str) for side in labels for label in side) and _unique(labels):
        yield from _named(path, before, after)
        return
    gone, come = _without(before, after), _without(after, before)
    if len(gone) == len(come) == 1 and isinstance(gone[0], BaseModel) and type(gone[0]) is type(come[0]):
        index = after.index(come[0])
        yield from field_changes(gone[0], come[0], prefix=f"{path}[{index}].")
        return
    for one in gone:
        yield path, f"loses {in_words(one)}"
    for one in come:
        yield path, f"gains {in_words(one)}"
    if not gone and not come:
        yield path, f"in another order: {in_words(after)}"


def _named(path: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    was, now = {one.name: one for one in before}, {one.name: one for one in after}
    for name in (*was, *(name for name in now if name not in was)):
        place = f"{path}[{name}]"
        if name not in now:
            yield place, "removed"
        elif name not in was:
            yield place, f"added: {compact(now[name], skip=('name',))}"
        elif was[name] != now[name]:
            yield from field_changes(was[name], now[name], prefix=f"{place}.")
    if [name for name in was if name in now] != [name for name in now if name in was]:
        yield path, "in another order"


def _unique(sides: list[list[Any]]) -> bool:
    return all(len(set(side)) == len(side) for side in sides)


def _without(items: tuple[Any, ...], others: tuple[Any, ...]) -> list[Any]:
    """Items that `others` does not hold, as often as they are more."""
    rest = list(others)
    found = []
    for one in items:
        if one in rest:
            rest.remove(one)
        else:
            found.append(one)
    return found
