"""A short text that a regular expression matches, where one can be derived. Pure.

Read with Python's own parser, whose syntax is nearly RE2's; the engine that `explain` judges by is then asked
whether it is matched for certain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xds_agent.explain.route_match import NotJudged, matches_regex

# No public name of it since Python 3.11.
_PARSER: Any = getattr(re, "_parser", None)
# Letters a path and a header may hold, the plainest first.
_PLAIN = "a0Az9Z-._~/ "
_LONGEST = 200


def example_of(expression: str) -> str | None:
    """None where none is found: look-around, back references, or what would be too long."""
    if _PARSER is None:
        return None
    try:
        parsed = _PARSER.parse(expression)
        found = "".join(_of(step) for step in parsed)
    except (re.error, _NoExample, RecursionError, OverflowError):
        return None
    try:
        return found if found.isprintable() and matches_regex(expression, found) else None
    except NotJudged:
        return None


class _NoExample(ValueError):
    pass


def _of(step: tuple[Any, Any]) -> str:
    kind, said = str(step[0]), step[1]
    match kind:
        case "LITERAL":
            return chr(said)
        case "NOT_LITERAL":
            return _first(letter for letter in _PLAIN if ord(letter) != said)
        case "ANY":
            return _PLAIN[0]
        case "AT":
            # Envoy matches the whole text anyway.
            return ""
        case "IN":
            return (
                _first(letter for letter in _PLAIN if _within(letter, said))
                if _named(said)
                else _literal(said)
            )
        case "BRANCH":
            return "".join(map(_of, said[1][0]))
        case "SUBPATTERN":
            return "".join(map(_of, said[-1]))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, _most, inner = said
            once = "".join(map(_of, inner))
            if len(once) * int(least) > _LONGEST:
                raise _NoExample
            return once * int(least)
    raise _NoExample


def _named(choices: Iterable[tuple[Any, Any]]) -> bool:
    """Whether plain letters have to be tried: a class of letters, or all but some."""
    return any(str(kind) in ("NEGATE", "CATEGORY") for kind, _ in choices)


def _literal(choices: Iterable[tuple[Any, Any]]) -> str:
    for kind, said in choices:
        return chr(int(said if str(kind) == "LITERAL" else said[0]))
    raise _NoExample


def _within(letter: str, choices: Iterable[tuple[Any, Any]]) -> bool:
    negated, found, code = False, False, ord(letter)
    for kind, said in choices:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found = found or code == said
            case "RANGE":
                found = found or said[0] <= code <= said[1]
            case "CATEGORY":
                found = found or _CATEGORIES[str(said)](letter)
    return found != negated


_CATEGORIES: Mapping[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdigit,
    "CATEGORY_NOT_DIGIT": lambda letter: not letter.isdigit(),
    "CATEGORY_WORD": lambda letter: letter.isalnum() or letter == "_",
    "CATEGORY_NOT_WORD": lambda letter: not (letter.isalnum() or letter == "_"),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda letter: not letter.isspace(),
}


def _first(letters: Iterable[str]) -> str:
    for letter in letters:
        return letter
    raise _NoExample
