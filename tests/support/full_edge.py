"""An edge in which every field of the model is set, and every way to change one of them.

Values are made from the types alone, so a field added to the model is covered at once.
"""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from xds_agent.model import Edge, Host, Site

Step = str | int
Place = tuple[Step, ...]

# Of these a rule has exactly one; the site holds a rule for each.
_ACTIONS = ("service", "split", "redirect", "respond")
_MATCHES = ("prefix", "exact", "regex")


def full_site() -> Site:
    """A site with every field set; not one that load_site would take, which asks for more sense."""
    edge = made(Edge, 1)
    route = edge.routes[0]
    routes = []
    for index, action in enumerate(_ACTIONS):
        match = _MATCHES[index % len(_MATCHES)]
        others = {key: None for key in (*_ACTIONS, *_MATCHES) if key not in (action, match)}
        routes.append(route.model_copy(update={**others, "name": f"route-{action}"}))
    hosts = {"edge1": made(Host, 1).model_copy(update={"name": "edge1", "groups": ("ingress",)})}
    return Site(edge=replaced(edge, ("routes",), tuple(routes)), hosts=hosts)


def made(annotation: Any, seed: int) -> Any:
    """A value of a type; another seed gives another value wherever the type has more than one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return made(arguments[0], seed)
    if origin in (typing.Union, types.UnionType):
        return made(next(one for one in arguments if one is not type(None)), seed)
    if origin is typing.Literal:
        return arguments[seed % len(arguments)]
    if origin is tuple:
        return (made(arguments[0], seed),)
    if origin in (dict, Mapping):
        return {f"key{seed}": made(arguments[1], seed)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {name: made(field.annotation, seed) for name, field in annotation.model_fields.items()}
        return annotation.model_construct(**fields)
    makers: dict[Any, Any] = {
        str: f"text{seed}",
        int: seed,
        float: seed + 0.5,
        bool: bool(seed % 2),
        dt.timedelta: dt.timedelta(seconds=seed),
        dt.datetime: dt.datetime(2026, 12, seed, tzinfo=dt.UTC),
        SecretStr: SecretStr(f"hidden-{seed}"),
    }
    if annotation not in makers and getattr(annotation, "__name__", "") == "AwareDatetime":
        return makers[dt.datetime]
    return makers[annotation]


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a value, inner ones after what holds them; the root is not one."""
    if at:
        yield at
    if isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from places(getattr(node, name), (*at, name))
    elif isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from places(item, (*at, index))
    elif isinstance(node, dict):
        for key, item in node.items():
            yield from places(item, (*at, key))


def alternatives(root: Any, at: Place) -> list[Any]:
    """Other values for a place: another of the same kind, one more, none where the model allows it."""
    value = found(root, at)
    kinds = _kinds(root, at)
    options = [None] if type(None) in kinds else []
    literals = [typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal]
    options += [one for choices in literals for one in choices] or _others(value)
    return [one for one in options if one != value]


def _kinds(root: Any, at: Place) -> tuple[Any, ...]:
    """The types a field of a model may have; nothing is known of items of lists and mappings."""
    owner = found(root, at[:-1])
    if not isinstance(owner, BaseModel):
        return ()
    annotation = type(owner).model_fields[str(at[-1])].annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _others(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [(), _longer(value), value[::-1]]
    if isinstance(value, dict):
        return [{}]
    if isinstance(value, SecretStr):
        return [SecretStr(value.get_secret_value() + "-2")]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    if isinstance(value, str):
        return [value + "x"]
    if isinstance(value, dt.timedelta):
        return [value + dt.timedelta(seconds=1)]
    if isinstance(value, dt.datetime):
        return [value + dt.timedelta(days=1)]
    return []


def _longer(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """One item more; names stay unique, as every inventory's do."""
    if (
        not items
        or not isinstance(items[0], BaseModel)
        or not isinstance(getattr(items[0], "name", None), str)
    ):
        return (*items, *items)
    name = f"{items[0].name}-copy"
    if any(one.name == name for one in items):
        return items
    return (*items, items[0].model_copy(update={"name": name}))


def replaced(node: Any, at: Place, value: Any) -> Any:
    """`node` with another value at one place."""
    if not at:
        return value
    head, rest = at[0], at[1:]
    if isinstance(node, BaseModel):
        # Not model_copy: it would take cached properties of the original along.
        fields = {name: getattr(node, name) for name in type(node).model_fields}
        fields[str(head)] = replaced(fields[str(head)], rest, value)
        return type(node).model_construct(_fields_set=set(node.model_fields_set), **fields)
    if isinstance(node, tuple):
        return tuple(replaced(one, rest, value) if i == head else one for i, one in enumerate(node))
    return {key: replaced(one, rest, value) if key == head else one for key, one in node.items()}


def found(node: Any, at: Place) -> Any:
    """The value at a place."""
    for step in at:
        node = getattr(node, str(step)) if isinstance(node, BaseModel) else node[step]
    return node
