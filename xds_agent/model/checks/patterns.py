"""Regular expressions: Envoy uses RE2, which has no lookaround and no back references.

Rust's engine (in pydantic-core) is of the same family and names what it cannot take; the few things Rust
knows beyond RE2 are refused here.
"""

import re
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

_FOREIGN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\(\?<?[=!]"), "lookaround"),
    (re.compile(r"\(\?>"), "an atomic group"),
    (re.compile(r"\(\?\("), "a conditional group"),
    (re.compile(r"\(\?#"), "a comment"),
    (re.compile(r"\(\?P=|\\k[<{']"), "a back reference"),
    (re.compile(r"\\[1-9]"), "a back reference"),
    (re.compile(r"\\[GZ]"), "an anchor RE2 does not know"),
    (re.compile(r"\\b\{"), "an anchor RE2 does not know"),
    (re.compile(r"(?:[*+?]|\})\+"), "a possessive repetition"),
    (re.compile(r"\(\?[a-zA-Z]*-?[a-zA-Z]*[xRu][a-zA-Z]*[:)]"), "a flag RE2 does not know"),
)
_ESCAPED = re.compile(r"\\[^1-9GZkbB]|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_LARGEST_REPEAT = 1000
_SET_OPERATION = re.compile(r"&&|--|~~")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]")


@lru_cache(maxsize=4096)
def why_not_re2(expression: str) -> str | None:
    """Why RE2 cannot take ``expression``, in words; None when it can."""
    # Escaped characters and character classes cannot hold any of the constructs looked for.
    bare = _ESCAPED.sub("x", expression)
    for pattern, what in _FOREIGN:
        if pattern.search(bare):
            return f"it holds {what}, which RE2 (Envoy's engine) cannot take"
    for match in _REPEAT.finditer(bare):
        if any(int(n) > _LARGEST_REPEAT for n in match.groups() if n):
            return f"it repeats more than {_LARGEST_REPEAT} times"
    if any(_SET_OPERATION.search(found) for found in _CLASS.findall(expression)):
        return "it holds an operation on character sets, which RE2 does not know"
    try:
        SchemaValidator(core_schema.str_schema(pattern=expression, regex_engine="rust-regex"))
    except SchemaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])
    return None


@lru_cache(maxsize=4096)
def groups_in(expression: str) -> int:
    """Number of capture groups of a valid expression."""
    bare = _ESCAPED.sub("x", expression)
    return len(re.findall(r"\((?!\?)|\(\?P?<[a-zA-Z_]", bare))


def highest_reference(substitution: str) -> int:
    r"""Largest group a substitution refers to: '/\2/\1' -> 2; 0 when none."""
    return max((int(n) for n in re.findall(r"\\(\d)", substitution.replace("\\\\", ""))), default=0)
