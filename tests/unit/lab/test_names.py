"""Answers of the clouds' DNS: by place, by weight, by who is well; and the server that gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from lab.fabric.dns_server import Known, Server
from lab.fabric.names import Answer, Choice, Endpoint, Name, answer, asked, place_of
from lab.fabric.routes import Asked, Probe

CHECK = Probe("54.183.255.130", 443, "/", 10, 3, protocol="tcp")
EAST, EAST_TOO, WEST = (Endpoint(f"198.18.0.{number}", CHECK) for number in (1, 2, 3))
NAME = "shop.example.com"
NEAREST = Name(
    NAME, 60, "aws", None,
    (
        Choice((EAST, EAST_TOO), "us-east-1", 1, least=1, whole=True),
        Choice((WEST,), "us-west-2", 1, least=1, whole=True),
    ),
)  # fmt: skip
ALL: frozenset[Asked] = frozenset(asked([NEAREST]))
OREGON, VIRGINIA = ("gcp", "us-west1"), ("azure", "eastus")


def heaviest(choices: Sequence[Choice]) -> Choice:
    return max(choices, key=lambda one: one.weight)


def addresses(name: Name, place: tuple[str, str] | None, well: frozenset[Asked]) -> tuple[str, ...]:
    found = answer({NAME: name}, NAME, place=place, well=well, pick=heaviest)
    assert found is not None
    return found.addresses


def without(*lost: Endpoint) -> frozenset[Asked]:
    return ALL - {(CHECK, one.address) for one in lost}


def test_a_client_is_sent_to_the_nearest_region_that_is_well_and_if_none_is_to_the_nearest() -> None:
    assert addresses(NEAREST, VIRGINIA, ALL) == (EAST.address, EAST_TOO.address)
    assert addresses(NEAREST, OREGON, ALL) == (WEST.address,)
    assert addresses(NEAREST, OREGON, without(WEST)) == (EAST.address, EAST_TOO.address)
    assert addresses(NEAREST, OREGON, frozenset()) == (WEST.address,)


def test_route_53_gives_a_record_as_a_whole_and_cloud_dns_leaves_out_what_is_not_well() -> None:
    assert addresses(NEAREST, VIRGINIA, without(EAST)) == (EAST.address, EAST_TOO.address)
    parts = replace(NEAREST, choices=tuple(replace(one, whole=False) for one in NEAREST.choices))
    assert addresses(parts, VIRGINIA, without(EAST)) == (EAST_TOO.address,)
    assert addresses(parts, VIRGINIA, without(EAST, EAST_TOO)) == (WEST.address,)


def test_by_weight_a_choice_that_is_not_well_is_no_choice() -> None:
    first, second = NEAREST.choices
    weighted = replace(
        NEAREST, choices=(replace(first, region=None, weight=9), replace(second, region=None, weight=1))
    )
    assert addresses(weighted, None, ALL) == (EAST.address, EAST_TOO.address)
    assert addresses(weighted, None, without(EAST, EAST_TOO)) == (WEST.address,)


def test_a_name_that_stands_for_another_is_followed_and_a_ring_of_them_ends() -> None:
    alias = Name(NAME, 30, "azure", "site.trafficmanager.net", ())
    names = {NAME: alias, "site.trafficmanager.net": replace(NEAREST, name="site.trafficmanager.net")}
    assert answer(names, NAME, place=OREGON, well=ALL, pick=heaviest) == Answer(
        ((NAME, 30, "site.trafficmanager.net"),), "site.trafficmanager.net", 60, (WEST.address,)
    )
    assert answer({NAME: alias}, NAME, place=None, well=ALL, pick=heaviest) is None
    ring = answer({NAME: replace(alias, alias=NAME)}, NAME, place=None, well=ALL, pick=heaviest)
    assert ring is not None and not ring.addresses


def test_the_window_is_detection_and_time_to_live() -> None:
    assert NEAREST.window_s == 10 * (3 + 1) + 60


def test_a_network_is_where_an_address_of_it_is() -> None:
    places = {"198.18.0.1": VIRGINIA, "198.18.128.1": OREGON}
    assert place_of(places, "198.18.128.0/24") == OREGON and place_of(places, "198.18.0.1") == VIRGINIA
    assert place_of(places, "203.0.113.9") is None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server("127.0.0.1", port=0)
    made.known = Known({NAME: NEAREST}, {"198.18.0.1": VIRGINIA, "198.18.128.1": OREGON}, ALL)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("ask", [dns.query.udp, dns.query.tcp])
def test_it_answers_over_udp_and_tcp_by_the_network_that_the_resolver_names(
    server: Server, ask: object
) -> None:
    query = dns.message.make_query(NAME.upper(), "A")
    query.use_edns(options=[dns.edns.ECSOption("198.18.128.0", 24)])
    said = ask(query, "127.0.0.1", port=server.port, timeout=30)  # type: ignore[operator]
    assert [record.address for record in said.answer[0]] == [WEST.address] and said.answer[0].ttl == 60
    assert said.flags & dns.flags.AA and said.options == (dns.edns.ECSOption("198.18.128.0", 24, 24),)


def test_it_says_that_there_is_nothing_of_a_type_and_refuses_names_of_others(server: Server) -> None:
    def asked_for(name: str, rdtype: str) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype)
        return dns.query.udp(query, "127.0.0.1", port=server.port, timeout=30)

    nothing = asked_for(NAME, "AAAA")
    assert nothing.rcode() == dns.rcode.NOERROR and not nothing.answer
    assert nothing.authority[0].rdtype == dns.rdatatype.SOA
    assert asked_for("example.org", "A").rcode() == dns.rcode.REFUSED
