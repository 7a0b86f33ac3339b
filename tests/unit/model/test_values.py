"""Values with a unit, addresses, and expressions Envoy can take."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from xds_agent.model.base import Address, DomainName, is_dns_name
from xds_agent.model.checks.patterns import groups_in, highest_reference, why_not_re2
from xds_agent.model.health import Health
from xds_agent.model.quantities import (
    format_bit_rate,
    format_duration,
    format_size,
    parse_bit_rate,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("250ms", 250),
        ("1s", 1000),
        ("1.5s", 1500),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        (0, 0),
    ],
)
def test_durations(text: str | int, milliseconds: int) -> None:
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@given(st.integers(min_value=0, max_value=10**11))
def test_a_duration_survives_being_written(milliseconds: int) -> None:
    value = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(value)) == value


@given(st.integers(min_value=1, max_value=10**15))
def test_a_bit_rate_and_a_size_survive_being_written(value: int) -> None:
    assert parse_bit_rate(format_bit_rate(value)) == value
    assert parse_size(format_size(value)) == value


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-1s", "1s1", "1y", "1_0s", "0x1s", None, [], True])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "dns"),
    [
        ("10.1.0.11", False),
        ("::1", False),
        ("2001:db8::1:2", False),
        ("backend1", True),
        ("b2", True),
        ("shop.internal.example.com", True),
        ("10.example.com", True),
        ("_srv.example.com", True),
    ],
)
def test_addresses(text: str, dns: bool) -> None:
    assert TypeAdapter(Address).validate_python(text) == text
    assert is_dns_name(text) is dns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.256",
        "10.0.0",
        "10.0.0.1:80",
        "http://x",
        "a b",
        "-a.example.com",
        "a..b",
        "x/",
        "a" * 254,
        "x\n",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(text)


@pytest.mark.parametrize("text", ["*", "*.*.com", "a.*.com", "*.10.0.0.1", "*.", "a.example.com."])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DomainName).validate_python(text)


@pytest.mark.parametrize(
    "expression",
    [
        "/v[0-9]+/items",
        "(?i)/shop/.*",
        "(?P<name>[a-z]+)",
        "[[:alpha:]]+",
        r"\d{1,1000}",
        r"/a\+b",
        r"[(?=]x",
        r"/\(\?=x\)",
        r"(?:a|b)*?",
        r"\pL+",
    ],
)
def test_expressions_re2_takes(expression: str) -> None:
    assert why_not_re2(expression) is None


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("/(?=x)", "lookaround"),
        ("/(?!x)", "lookaround"),
        ("(?<=a)b", "lookaround"),
        ("(?<!a)b", "lookaround"),
        (r"(a)\1", "a back reference"),
        (r"(?P<x>a)(?P=x)", "a back reference"),
        (r"(?P<x>a)\k<x>", "a back reference"),
        ("(?>a)", "an atomic group"),
        ("a++", "a possessive repetition"),
        ("(a)?(?(1)b|c)", "a conditional group"),
        ("a(?#note)", "a comment"),
        (r"a\Z", "an anchor"),
        ("a{1001}", "more than 1000 times"),
        ("[a-z&&[^b]]", "an operation on character sets"),
        ("(?x) a b", "a flag"),
        ("(a", "unclosed group"),
        ("a)", "unopened group"),
        ("[a", "unclosed character class"),
        ("*a", "repetition operator missing expression"),
        ("[b-a]", "invalid character class range"),
    ],
)
def test_expressions_re2_does_not_take(expression: str, why: str) -> None:
    assert why in (why_not_re2(expression) or "")


def test_groups_and_references_of_a_substitution() -> None:
    assert groups_in(r"/(a)(?:b)(?P<c>c)\([(]") == 2
    assert highest_reference(r"/\2/\1/\\3") == 2


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/healthz", "/healthz"),
        ("/gr\u00f6\u00dfe", "/gr%C3%B6%C3%9Fe"),
        ("/a%20b;c=d&e", "/a%20b;c=d&e"),
        ("/\x01", "/%01"),
    ],
)
def test_the_path_of_a_check_can_stand_in_a_request(path: str, asked: str) -> None:
    assert Health(path=path).path == asked
