"""Texts of a site file that have a form: checked, with words that say the fix."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

INTERNET = "internet"
_WORD = re.compile(r"[a-z]+")


def _wrong(value: object, what: str, fix: str) -> PydanticCustomError:
    # The type "quantity" is read by xds_agent.model.words: message first, then the fix.
    shown = f"'{value}'" if isinstance(value, str) else repr(value)
    return PydanticCustomError(
        "quantity", "{shown} is not {what}", {"shown": shown[:60], "what": what, "fix": fix}
    )


def _matching(pattern: str, what: str, fix: str) -> Callable[[Any], str]:
    form = re.compile(pattern)

    def check(value: Any) -> str:
        if isinstance(value, str) and form.fullmatch(value):
            return value
        raise _wrong(value, what, fix)

    return check


def _network(value: Any) -> str:
    fix = "write it as 10.10.0.0/16"
    if not isinstance(value, str) or "/" not in value:
        raise _wrong(value, "a network", fix)
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError as error:
        raise _wrong(value, "an IPv4 network", fix) from error
    if str(network) != value:
        raise _wrong(value, "the beginning of a network", f"write {network}")
    return value


def _source(value: Any) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    fix = f"write '{INTERNET}', a role, or a range such as 198.51.100.0/24"
    try:
        network = ipaddress.ip_network(str(value), strict=False)
    except ValueError as error:
        raise _wrong(value, "a source", fix) from error
    if "/" not in str(value):
        raise _wrong(value, "a source: it has no length", f"write {network}")
    if str(network) != str(value):
        raise _wrong(value, "the beginning of a range", f"write {network}")
    return str(value)


def _span(value: Any) -> str:
    fix = "write a port or a span as text: '443' or '9000-9010'"
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,5}(?:-[0-9]{1,5})?", text):
        first, last = span_of(text)
        if 1 <= first <= last <= 65535:
            return text
        raise _wrong(value, "a span of ports (1 to 65535, the smaller first)", fix)
    raise _wrong(value, "a port or a span of ports", fix)


def span_of(text: str) -> tuple[int, int]:
    """'443' -> (443, 443), '9000-9010' -> (9000, 9010)."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def whole_internet(sources: Iterable[str]) -> frozenset[int]:
    """Families (4, 6) with every address among ``sources``: 0.0.0.0/1 and 128.0.0.0/1 are everybody too."""
    given = tuple(sources)
    if INTERNET in given:
        return frozenset((4, 6))
    networks = [ipaddress.ip_network(one) for one in given if "/" in one]
    fours = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network))
    sixes = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv6Network))
    return frozenset(one.version for one in (*fours, *sixes) if one.prefixlen == 0)


def _text_like(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_LABEL = r"^[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?$"
_TAG = r"^[a-z0-9_-]{1,63}$"
_SSH_KEY = r"^(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa) [A-Za-z0-9+/=]+(?: .*)?$"
# They become part of policies and conditions: nothing in them may mean more than itself there.
_AWS_PREFIX = r"^[A-Za-z0-9/_+=.@-]{1,400}$"
_GCP_PREFIX = r"^[A-Za-z0-9_-]{1,200}$"
_BUCKET = r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"
_GROUP = r"^[a-z_][a-z0-9_]*$"
_LOGIN = r"^[a-z][a-z0-9-]{0,30}$"

Label = Annotated[
    str,
    PlainValidator(
        _matching(
            _LABEL,
            "a name of cloud things",
            "use lower-case letters, digits and '-', beginning with a letter, at most 32",
        )
    ),
    _text_like(_LABEL),
]
"""A word that becomes part of names in every cloud."""
Tag = Annotated[
    str,
    PlainValidator(
        _matching(
            _TAG, "a tag that every cloud takes", "use lower-case letters, digits, '_' and '-', at most 63"
        )
    ),
    _text_like(_TAG),
]
"""Google Cloud's labels are the narrowest."""
SshKey = Annotated[
    str,
    PlainValidator(
        _matching(_SSH_KEY, "a public SSH key", "give the line of the .pub file: ssh-ed25519 AAAA... comment")
    ),
    _text_like(_SSH_KEY),
]
AwsPrefix = Annotated[
    str,
    PlainValidator(
        _matching(_AWS_PREFIX, "a beginning of names of secrets", "use letters, digits and /_+=.@-")
    ),
    _text_like(_AWS_PREFIX),
]
GcpPrefix = Annotated[
    str,
    PlainValidator(
        _matching(_GCP_PREFIX, "a beginning of names of secrets", "use letters, digits, '_' and '-'")
    ),
    _text_like(_GCP_PREFIX),
]
Bucket = Annotated[
    str,
    PlainValidator(
        _matching(_BUCKET, "a name of a bucket", "use lower-case letters, digits, '.', '_' and '-'")
    ),
    _text_like(_BUCKET),
]
GroupName = Annotated[
    str,
    PlainValidator(
        _matching(_GROUP, "a name of an inventory group", "use lower-case letters, digits and '_'")
    ),
    _text_like(_GROUP),
]
"""As the inventory plugin and Ansible take it; hyphens are none of them."""
Login = Annotated[
    str,
    PlainValidator(_matching(_LOGIN, "a login name", "use lower-case letters, digits and '-'")),
    _text_like(_LOGIN),
]
Network4 = Annotated[str, PlainValidator(_network), _text_like(r"^[0-9.]+/[0-9]{1,2}$")]
Source = Annotated[str, PlainValidator(_source), _text_like(r"^(?:[a-z]+|[0-9a-fA-F.:]+/[0-9]{1,3})$")]
PortSpan = Annotated[
    str,
    PlainValidator(_span),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d{1,5}(-\d{1,5})?$"}]}),
]
