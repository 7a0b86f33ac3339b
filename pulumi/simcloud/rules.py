"""Rules for values, in the words of whoever reads the refusal."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection
from typing import Any

from simcloud.schema import Rule


def matches(pattern: str, words: str) -> Rule:
    """The whole text has the form of ``pattern``, which ``words`` describe."""
    compiled = re.compile(pattern)

    def rule(value: Any) -> str | None:
        return None if compiled.fullmatch(str(value)) else f"{value!r} is not valid: {words}"

    return rule


def one_of(allowed: Collection[Any], what: str) -> Rule:
    def rule(value: Any) -> str | None:
        return (
            None
            if value in allowed
            else f"{value!r} is not a {what}; there are {', '.join(map(str, sorted(allowed)))}"
        )

    return rule


def network(widest: int = 0, narrowest: int = 32, version: int = 4) -> Rule:
    """A range of addresses with no host bits, its prefix between ``widest`` and ``narrowest``."""

    def rule(value: Any) -> str | None:
        try:
            found = ipaddress.ip_network(value)
        except ValueError as problem:
            return f"{value!r} is not a network: {problem}"
        if found.version != version:
            return f"{value!r} is not a network of IPv{version}"
        if not widest <= found.prefixlen <= narrowest:
            return f"{value!r}: the prefix must be between /{widest} and /{narrowest}"
        return None

    return rule


def between(least: int, most: int, what: str = "number") -> Rule:
    def rule(value: Any) -> str | None:
        good = isinstance(value, (int, float)) and least <= value <= most
        return None if good else f"{value!r} is not a {what} ({least} to {most})"

    return rule


def port_range(value: Any) -> str | None:
    """ "443" or "1000-2000"."""
    low, _, high = str(value).partition("-")
    numbers = [low, high or low]
    if all(each.isdigit() and int(each) <= 65535 for each in numbers) and int(numbers[0]) <= int(numbers[1]):
        return None
    return f"{value!r} is not a port or a range of ports (0 to 65535)"


def policy(value: Any) -> str | None:
    """A document of the form that AWS's identity service takes."""
    try:
        document = json.loads(value)
        statements = document["Statement"]
        statements = statements if isinstance(statements, list) else [statements]
        good = document.get("Version") == "2012-10-17" and all(
            each["Effect"] in ("Allow", "Deny") and each["Action"] for each in statements
        )
    except (TypeError, ValueError, KeyError):
        good = False
    return (
        None
        if good
        else "MalformedPolicyDocument: Version 2012-10-17 and statements with Effect and Action are needed"
    )
