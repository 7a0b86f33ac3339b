"""What every model of the inventory language shares: the base class and the small field types.

Types here are built from constraints that pydantic checks in compiled code, never from
Python functions, because a large site holds a hundred thousand of these values.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints


class Model(BaseModel):
    """Frozen, and closed: a key that nobody reads is a mistake, not a comment."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, regex_engine="rust-regex"
    )

    def __hash__(self) -> int:
        # Also for models that hold mappings; and pydantic copies a default that has no hash, each time.
        return hash(tuple(tuple(v.items()) if isinstance(v, dict) else v for v in self.__dict__.values()))


# Anchored with \z-like $: Rust's regex takes $ as the end of the text, never as "before a newline".
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?$"
_LABEL = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
_TOP_LABEL = r"[a-zA-Z](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4_PATTERN = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
IPV6_PATTERN = r"[0-9a-fA-F]*:[0-9a-fA-F:.]*"
HOSTNAME_PATTERN = rf"(?:{_LABEL}\.)*{_TOP_LABEL}"

Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that other parts of the inventory refer to; it also ends up in resource names and metrics."""

Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Count = Annotated[int, Strict(), Field(ge=1)]
Weight = Annotated[int, Strict(), Field(ge=0, le=1_000_000)]
Percent = Annotated[float, Field(ge=0, le=100)]
Flag = Annotated[bool, Strict()]

Address = Annotated[
    str,
    StringConstraints(pattern=rf"^(?:{IPV4_PATTERN}|{IPV6_PATTERN}|{HOSTNAME_PATTERN})$", max_length=253),
]
"""An IPv4 address, an IPv6 address without brackets, or a DNS name."""

IpAddress = Annotated[str, StringConstraints(pattern=rf"^(?:{IPV4_PATTERN}|{IPV6_PATTERN})$")]
Hostname = Annotated[str, StringConstraints(pattern=rf"^{HOSTNAME_PATTERN}$", max_length=253)]
DomainName = Annotated[
    str,
    StringConstraints(pattern=rf"^(?:\*\.)?{HOSTNAME_PATTERN}$", max_length=253, to_lower=True),
]
"""A DNS name, or a wildcard such as ``*.example.com`` (one leading label only)."""

HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$", to_lower=True)]
PathText = Annotated[str, StringConstraints(pattern=r"^/[^\s?#]*$", max_length=4096)]
"""The path of a URL: starts with a slash, holds no query and no fragment."""


def _sorted_by_key(mapping: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(mapping.items()))


BY_KEY = AfterValidator(_sorted_by_key)
"""For mappings: their order in the file means nothing, so it must not show in anything made from them."""


def is_dns_name(address: str) -> bool:
    """True when ``address`` (already valid) must be resolved, false for an IP address."""
    return ":" not in address and not address.rsplit(".", 1)[-1].isdigit()
