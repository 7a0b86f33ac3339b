"""Pydantic's errors in our own words: what is wrong, and the fix."""

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from xds_agent.model import base, certificates, tenants

Loc = tuple[int | str, ...]
Words = tuple[str, str]

_PATTERNS: dict[str, Words] = {
    base.NAME_PATTERN: (
        "is not a name",
        "use lower-case letters, digits, '.', '-' and '_', at most 63, beginning and ending with a "
        "letter or digit",
    ),
}


def _pattern_of(annotation: Any) -> str:
    for part in typing.get_args(annotation):
        pattern = getattr(part, "pattern", None)
        if isinstance(pattern, str):
            return pattern
    raise TypeError(f"{annotation} has no pattern")


_PATTERNS.update(
    {
        _pattern_of(base.Address): (
            "is not an address",
            "write an IPv4 or IPv6 address (no port, no brackets) or a DNS name",
        ),
        _pattern_of(base.Hostname): (
            "is not a DNS name",
            "write a name such as shop.example.com, without scheme or port",
        ),
        _pattern_of(base.DomainName): (
            "is not a domain",
            "write a name such as shop.example.com or *.example.com, without scheme or port",
        ),
        _pattern_of(base.HeaderName): ("is not the name of a header", "write a name such as x-beta"),
        _pattern_of(base.PathText): ("is not a path", "begin with / and leave out spaces, ? and #"),
        _pattern_of(certificates.CertificatePem): (
            "is not a certificate in PEM",
            "give the text that begins with -----BEGIN CERTIFICATE-----",
        ),
        _pattern_of(certificates.CrlPem): (
            "is not a revocation list in PEM",
            "give the text that begins with -----BEGIN X509 CRL-----",
        ),
        _pattern_of(certificates.HttpsUrl): ("is not an https URL", "begin with https://"),
        _pattern_of(tenants.SyslogUrl): (
            "is not a syslog URL",
            "write udp://, tcp:// or tls://, host and port",
        ),
    }
)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name a person most likely meant, or None when nothing is near."""
    return _nearest(word, tuple(known))


# The same mistake comes a thousand times where a template makes it.
@lru_cache(maxsize=256)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def instead_of(word: str, known: Iterable[str], what: str = "") -> str:
    """A fix for an unknown word: the nearest known one, else all of them when they are few."""
    candidates = sorted(known)
    if near := nearest(word, candidates):
        return f"did you mean '{near}'?"
    if candidates and len(candidates) <= 12:
        return f"known {what or 'ones'}: {', '.join(candidates)}"
    return ""


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    text = repr(value) if not isinstance(value, str) else f"'{value}'" if value else "an empty text"
    text = text.replace("\n", "\\n")
    return text if len(text) <= 60 else text[:57] + "..."


def _unwrapped(annotation: Any) -> Any:
    """Strips Annotated and `| None`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def annotation_at(model: type[BaseModel], loc: Sequence[int | str]) -> Any:
    """The (unwrapped) type that the model has at ``loc``, or None where it has nothing."""
    here: Any = model
    for step in loc:
        here = _unwrapped(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(step))
            if field is None:
                return None
            here = field.annotation
            continue
        arguments = typing.get_args(here)
        if typing.get_origin(here) is tuple:
            here = arguments[0]
        elif typing.get_origin(here) is dict:
            here = arguments[1]
        else:
            return None
    return _unwrapped(here)


def is_secret(model: type[BaseModel], loc: Sequence[int | str]) -> bool:
    """True when the value at ``loc``, or one that contains it, must never be shown."""
    return any(annotation_at(model, loc[: n + 1]) is SecretStr for n in range(len(loc)))


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    for kind, name in ((bool, "true or false"), (int, "a number"), (float, "a number"), (str, "text")):
        if isinstance(value, kind):
            return name
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else type(value).__name__


def _unknown_key(error: ErrorDetails, model: type[BaseModel]) -> Words:
    loc = error["loc"]
    owner = annotation_at(model, loc[:-1])
    known = list(owner.model_fields) if isinstance(owner, type) and issubclass(owner, BaseModel) else []
    return f"unknown key '{loc[-1]}'", instead_of(str(loc[-1]), known, "keys")


def _missing(error: ErrorDetails, model: type[BaseModel]) -> Words:
    owner = annotation_at(model, error["loc"][:-1])
    example = ""
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        field = owner.model_fields.get(str(error["loc"][-1]))
        if field is not None and field.examples:
            example = f", for example {error['loc'][-1]}: {field.examples[0]}"
    return "is missing", f"add it{example}"


def _pattern(error: ErrorDetails, model: type[BaseModel]) -> Words:
    what, fix = _PATTERNS.get(error["ctx"]["pattern"], ("has not the right form", error["ctx"]["pattern"]))
    return f"{shown(error['input'])} {what}", fix


def _choice(error: ErrorDetails, model: type[BaseModel]) -> Words:
    options = typing.get_args(annotation_at(model, error["loc"]))
    value = error["input"]
    near = nearest(value, [str(option) for option in options]) if isinstance(value, str) else None
    listed = ", ".join(str(option) for option in options)
    message = f"{shown(value)} is not one of {listed}"
    if not isinstance(value, str) and str(value) in options:
        return message, f"write it in quotes: '{value}'"
    return message, f"did you mean '{near}'?" if near else ""


def _range(error: ErrorDetails, model: type[BaseModel]) -> Words:
    value, ctx, loc = error["input"], error.get("ctx", {}), error["loc"]
    if "port" in loc or "ports" in loc:
        return f"{value} is not a port (1 to 65535)", ""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bounds = [f"{word} {ctx[key]}" for key, word in words.items() if key in ctx]
    return f"{value} is out of range", f"use {' and '.join(bounds)}"


def _type(expected: str) -> Callable[[ErrorDetails, type[BaseModel]], Words]:
    def words(error: ErrorDetails, model: type[BaseModel]) -> Words:
        value = error["input"]
        fix = ""
        if expected == "text" and isinstance(value, bool):
            fix = "write it in quotes: YAML takes yes, no, on, off, true and false for truth values"
        elif expected == "text" and isinstance(value, int | float):
            fix = f"write it in quotes: '{value}'"
        elif expected == "a whole number" and isinstance(value, str) and value.strip().lstrip("-").isdigit():
            fix = f"write it without quotes: {value.strip()} (in a template: {{{{ ... | int }}}})"
        elif expected == "a list" and isinstance(value, str | Mapping):
            fix = "write it as a list: [...]"
        return f"{shown(value)} is {_kind(value)}, not {expected}", fix

    return words


def _quantity(error: ErrorDetails, model: type[BaseModel]) -> Words:
    ctx = error["ctx"]
    return f"{ctx['shown']} is not {ctx['what']}", ctx["fix"]


def _length(error: ErrorDetails, model: type[BaseModel]) -> Words:
    ctx = error.get("ctx", {})
    if error["type"] in ("too_short", "string_too_short"):
        return "is empty", "give at least one"
    return f"is too long (at most {ctx.get('max_length')})", "shorten it"


def _moment(error: ErrorDetails, model: type[BaseModel]) -> Words:
    message = f"{shown(error['input'])} is not a time with a time zone"
    return message, 'write it as "2026-12-01T06:00Z"'


_WORDS: dict[str, Callable[[ErrorDetails, type[BaseModel]], Words]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "string_pattern_mismatch": _pattern,
    "literal_error": _choice,
    "greater_than_equal": _range,
    "greater_than": _range,
    "less_than_equal": _range,
    "less_than": _range,
    "string_type": _type("text"),
    "int_type": _type("a whole number"),
    "int_parsing": _type("a whole number"),
    "int_from_float": _type("a whole number"),
    "float_type": _type("a number"),
    "float_parsing": _type("a number"),
    "bool_type": _type("true or false"),
    "bool_parsing": _type("true or false"),
    "tuple_type": _type("a list"),
    "dict_type": _type("a mapping"),
    "model_type": _type("a mapping"),
    "model_attributes_type": _type("a mapping"),
    "quantity": _quantity,
    "too_short": _length,
    "too_long": _length,
    "string_too_short": _length,
    "string_too_long": _length,
    "timezone_aware": _moment,
    "datetime_type": _moment,
    "datetime_parsing": _moment,
    "datetime_from_date_parsing": _moment,
}


def explain(error: ErrorDetails, model: type[BaseModel], *, hidden: bool) -> Words:
    """(what is wrong, fix) for one error of pydantic; ``hidden``: the value is secret and is not shown."""
    if hidden:
        if error["type"] == "missing":
            return _missing(error, model)
        return "the value is not right (it is secret and not shown)", "look at the value itself"
    maker = _WORDS.get(error["type"])
    if maker is None:
        return f"{shown(error['input'])}: {error['msg']}", ""
    return maker(error, model)
