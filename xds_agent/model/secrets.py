"""Secrets out of a site document, and back in.

The stored document holds `{"$secret": reference}` where a secret was; the values go to the store apart,
encrypted. Secret are the fields the model says so (private keys, tokens), and every path listed under
`secret_paths`, where the Ansible side notes values that came from a vault.
"""

from collections.abc import Iterator, Mapping
from typing import Any

MARK = "$secret"

_SECRET_FIELDS: tuple[tuple[str, ...], ...] = (
    ("certificates", "*", "private_key"),
    ("services", "*", "auth", "tokens", "*"),
)
"""Where the model has SecretStr; a test compares this with the model itself."""


def _places(node: Any, pattern: tuple[str, ...], loc: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if not pattern:
        yield loc
        return
    head, rest = pattern[0], pattern[1:]
    if head == "*" and isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from _places(item, rest, (*loc, index))
    elif head == "*" and isinstance(node, Mapping):
        for key, value in node.items():
            yield from _places(value, rest, (*loc, key))
    elif isinstance(node, Mapping) and head in node:
        yield from _places(node[head], rest, (*loc, head))


def _walk(node: Any, path: str, loc: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    yield path, loc, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _walk(value, f"{path}.{key}", (*loc, key))
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            name = item.get("name") if isinstance(item, Mapping) else None
            label = name if isinstance(name, str) else index
            yield from _walk(item, f"{path}[{label}]", (*loc, index))


def _set(document: Any, loc: tuple[Any, ...], value: Any) -> Any:
    """``document`` with ``value`` at ``loc``; copies only what is on the way."""
    if not loc:
        return value
    copy: Any = dict(document) if isinstance(document, Mapping) else list(document)
    copy[loc[0]] = _set(copy[loc[0]], loc[1:], value)
    return copy


def _path(document: Mapping[str, Any], loc: tuple[Any, ...]) -> str:
    text, here = "", document
    for step in loc:
        here = here[step]
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, Mapping) else None
            text += f"[{name if isinstance(name, str) else step}]"
        else:
            text += f".{step}" if text else str(step)
    return text


def split_secrets(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(document without secrets, secrets by reference). The argument is not changed.

    References are paths ('edge.certificates[shop].private_key'), so a changed secret keeps its reference:
    compare the secrets too to see whether anything changed.
    """
    found: dict[tuple[Any, ...], str] = {}
    edge = document.get("edge")
    for pattern in _SECRET_FIELDS:
        for loc in _places(edge, pattern, ("edge",)):
            found[loc] = _path(document, loc)
    wanted = frozenset(document.get("secret_paths") or ())
    if wanted:
        for section in ("edge", "hosts"):
            for path, loc, leaf in _walk(document.get(section), section, (section,)):
                if path in wanted and isinstance(leaf, str):
                    found[loc] = path
    stripped: dict[str, Any] = dict(document)
    secrets: dict[str, str] = {}
    for loc, path in found.items():
        value: Any = document
        for step in loc:
            value = value[step]
        # Anything but text is a mistake that load_site will name; a mapping may already be a reference.
        if not isinstance(value, str):
            continue
        reference = path
        while reference in secrets:
            reference += "'"
        secrets[reference] = value
        stripped = _set(stripped, loc, {MARK: reference})
    return stripped, secrets


def join_secrets(document: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The document with its secrets back in place. Raises KeyError for a reference nobody holds."""

    def filled(node: Any) -> Any:
        if isinstance(node, Mapping):
            if len(node) == 1 and MARK in node:
                return secrets[node[MARK]]
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [filled(item) for item in node]
        return node

    return {key: filled(value) if key in ("edge", "hosts") else value for key, value in document.items()}
