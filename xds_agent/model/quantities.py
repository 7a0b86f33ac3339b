"""Values with a unit: durations, bit rates, sizes, and shares of a fleet.

Each is written with its unit ("250ms", "200mbit", "2GiB", "25%"); a bare number is an error,
since nobody can tell seconds from milliseconds by looking at it.
"""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_WHOLE = re.compile(rf"(?:{_DURATION.pattern})+")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_RATE = re.compile(r"(\d+(?:\.\d+)?)(bit|kbit|mbit|gbit|tbit)")
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


_LONGEST = timedelta(days=3650)
_MOST = 2**53
"""Of bits or bytes: what every JSON reader and Envoy hold exactly."""


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    # A lone surrogate (JSON can carry one) fits no message.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 40 else text[:37] + "..."


def _wrong(what: str, value: object, fix: str) -> PydanticCustomError:
    # The type "quantity" is read by xds_agent.model.words: message first, then the fix.
    return PydanticCustomError(
        "quantity", "{shown} is not {what}", {"shown": _shown(value), "what": what, "fix": fix}
    )


@lru_cache(maxsize=4096)
def _duration_of(text: str) -> timedelta | None:
    if not _DURATION_WHOLE.fullmatch(text):
        return None
    total_ms = sum(float(n) * _MILLISECONDS[unit] for n, unit in _DURATION.findall(text))
    # Beyond what timedelta and protobuf hold, as anything longer than this: refused all the same.
    return timedelta(milliseconds=round(min(total_ms, _LONGEST / timedelta(milliseconds=1) + 1)))


def parse_duration(value: Any) -> timedelta:
    """'250ms', '1s', '5m', '1h30m' -> timedelta. Raises PydanticCustomError for anything else."""
    if isinstance(value, str):
        found = _duration_of(value)
        if found is not None and found > _LONGEST:
            raise _wrong("a duration: it is longer than ten years", value, "write a shorter one")
        if found is not None:
            return found
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return timedelta(0)
        raise _wrong("a duration: it has no unit", value, f"write {value}s for seconds or {value}ms")
    raise _wrong("a duration", value, "write a number with ms, s, m, h or d, for example 250ms, 5s or 1h30m")


def format_duration(value: timedelta) -> str:
    """timedelta -> the shortest exact inventory form, for example '1m30s'."""
    rest_ms = round(value / timedelta(milliseconds=1))
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest_ms = divmod(rest_ms, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_bit_rate(value: Any) -> int:
    """'200mbit' -> bits per second. Raises PydanticCustomError for anything else."""
    if isinstance(value, str) and (match := _RATE.fullmatch(value.lower())):
        bits = float(match[1]) * _BITS[match[2]]
        if bits > _MOST:
            raise _wrong("a bit rate of any link", value, "write a lower one")
        if round(bits) > 0:
            return round(bits)
    raise _wrong(
        "a bit rate", value, "write a number with bit, kbit, mbit or gbit (per second), for example 200mbit"
    )


def format_bit_rate(bits: int) -> str:
    """bits per second -> the shortest exact inventory form, for example '200mbit'."""
    for unit in ("tbit", "gbit", "mbit", "kbit"):
        if bits % _BITS[unit] == 0:
            return f"{bits // _BITS[unit]}{unit}"
    return f"{bits}bit"


def parse_size(value: Any) -> int:
    """'2GiB' -> bytes. Raises PydanticCustomError for anything else."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = float(match[1]) * _BYTES[match[2]]
        if size > _MOST:
            raise _wrong("a size of any memory", value, "write a smaller one")
        if round(size) > 0:
            return round(size)
    raise _wrong("a size", value, "write a number with B, KiB, MiB or GiB, for example 512MiB")


def format_size(size: int) -> str:
    """bytes -> the shortest exact inventory form, for example '2GiB'."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_wave(value: Any) -> int | str:
    """A wave of a rollout: a count of proxies (1, 2, ...) or a share of all ('25%')."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and (match := _SHARE.fullmatch(value)) and 0 < float(match[1]) <= 100:
        return value
    raise _wrong(
        "a wave", value, 'write how many proxies of each role and cloud (1) or a share of all of them ("25%")'
    )


Duration = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["250ms", "5s", "5m"]}
    ),
]
BitRate = Annotated[
    int,
    PlainValidator(parse_bit_rate),
    PlainSerializer(format_bit_rate, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)?([kmgtKMGT]?bit)$", "examples": ["200mbit", "1gbit"]}
    ),
]
Size = Annotated[
    int,
    PlainValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)?(B|KiB|MiB|GiB|TiB)$", "examples": ["512MiB", "2GiB"]}
    ),
]
Wave = Annotated[
    int | str,
    PlainValidator(parse_wave),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}]}
    ),
]
