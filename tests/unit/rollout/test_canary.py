"""Requests through canaries: which are chosen, and how replies are judged."""

from __future__ import annotations

import copy
import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.real_material import real_material
from tests.support.small_site import DOCUMENT
from xds_agent.compile import Compiler
from xds_agent.explain.route_match import matches_regex
from xds_agent.model import load_site
from xds_agent.rollout.canary import sample
from xds_agent.rollout.canary.choose import MOST, choose
from xds_agent.rollout.canary.example import example_of
from xds_agent.rollout.canary.judge import judge, served, was_served
from xds_agent.rollout.canary.question import Question, Reply
from xds_agent.snapshot.resource import EMPTY

NOW = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
BASE = copy.deepcopy(DOCUMENT)
BASE["edge"]["services"] += [
    {"name": "shop-v2", "tenant": "retail", "endpoints": [{"address": "10.9.1.1", "port": 80}]},
    {
        "name": "greeter", "tenant": "retail", "protocol": "grpc", "domains": ["shop.example.com"],
        "endpoints": [{"address": "10.9.1.2", "port": 80}],
    },
    {
        "name": "echo", "tenant": "retail", "protocol": "tcp", "listen": {"port": 7000},
        "endpoints": [{"address": "10.9.1.3", "port": 7000}],
    },
]  # fmt: skip
MATERIAL, _ = real_material(load_site(BASE))


def compiled(document):
    site = load_site(document)
    return site, Compiler().compile(site, MATERIAL, now=NOW).snapshots()["edge1"]


def chosen(change, **more):
    """What a canary is asked when `change` has been made to the site."""
    document = copy.deepcopy(BASE)
    change(document["edge"])
    (old, before), (new, after) = compiled(BASE), compiled(document)
    return choose(old, new, before, after, **more)


def asked(change):
    return [str(one) for one in chosen(change).questions]


def route(**more):
    return lambda edge: edge["routes"].append({"domains": ["shop.example.com"], "service": "shop", **more})


def test_nothing_that_differs_is_nothing_to_ask():
    assert chosen(lambda edge: None).questions == ()
    (old, before) = compiled(BASE)
    assert choose(old, old, before, EMPTY).questions == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (route(prefix="/pay"), "GET https://shop.example.com/pay"),
        (route(exact="/robots.txt", methods=["HEAD", "POST"]), "HEAD https://shop.example.com/robots.txt"),
        (route(regex="/plain/words"), "GET https://shop.example.com/plain/words"),
        (route(regex="/v[0-9]+/(cart|pay)"), "GET https://shop.example.com/v0/cart"),
        (
            route(prefix="/b", headers=[{"name": "X-Beta", "exact": "yes"}, {"name": "x", "negate": True}]),
            "GET https://shop.example.com/b with x-beta: yes",
        ),
        (
            route(prefix="/shop.Cart", service="greeter"),
            f"POST grpc://shop.example.com/shop.Cart/{sample.METHOD}",
        ),
        # What a rule took that is gone, another one takes now.
        (lambda edge: edge["routes"].clear(), "GET https://shop.example.com/old"),
        (lambda edge: edge["services"][0].update(timeout="3s"), "GET https://shop.example.com/"),
        (lambda edge: edge["services"][3]["endpoints"][0].update(port=81), "POST grpc://shop.example.com/"),
        (lambda edge: edge["services"][4]["endpoints"][0].update(port=7001), "tcp port 7000"),
        (lambda edge: edge["domains"][0].update(tls_minimum="1.3"), "GET https://shop.example.com/"),
    ],
)
def test_what_differs_is_asked_for(change, expected):
    assert any(one.startswith(expected) for one in asked(change)), asked(change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (route(regex="/v[0-9]+/\\p{L}"), "of which no example can be derived"),
        (route(regex="[^/].*"), "of which no example can be derived"),
        (route(prefix="/p", methods=["POST"]), "only POST, which may change something"),
        (route(prefix="/p", headers=[{"name": "host", "exact": "x"}]), "a condition on host"),
        (route(exact="/shop.Cart/Empty", service="greeter"), "one gRPC method"),
    ],
)
def test_what_cannot_be_asked_without_harm_is_told_and_not_asked(change, words):
    found = chosen(change)
    assert found.questions == ()
    assert len(found.unasked) == 1 and words in found.unasked[0]


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a", "/", "[0-9]", "[^/]", ".", "\\d", "\\w", "-", "\\.", "[a-c_]", "$", "\\S"]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}"])).map(
                lambda p: f"(?:{p[0]}){p[1]}"
            ),
        ),
    )
)
def test_an_example_is_matched_by_its_expression(expression):
    found = example_of(expression)
    assert found is None or matches_regex(expression, found)
    # Without an end in the middle there is always one.
    assert found is not None or "$" in expression


def test_of_udp_it_is_told_that_nothing_is_asked():
    def dns(edge):
        edge["services"].append(
            {
                "name": "dns", "tenant": "retail", "protocol": "udp", "listen": {"port": 5300},
                "endpoints": [{"address": "10.9.1.4", "port": 53}],
            }
        )  # fmt: skip

    assert any("services[dns]: of udp no datagram" in words for words in chosen(dns).unasked)


def test_a_route_that_other_things_are_in_front_of_is_asked_before_its_surroundings():
    def change(edge):
        route(prefix="/pay")(edge)
        edge["services"][0]["timeout"] = "3s"

    assert asked(change)[0] == "GET https://shop.example.com/pay"


def test_names_that_want_a_certificate_nobody_here_has_are_asked_for_their_refusal():
    def change(edge):
        edge["authorities"] = [{"name": "partners", "certificate": "-----BEGIN CERTIFICATE-----"}]
        edge["domains"][0].update(client_auth="required", client_ca="site-ca")
        edge["domains"][1].update(client_auth="required", client_ca="partners")

    document = copy.deepcopy(BASE)
    change(document["edge"])
    new = load_site(document)
    material, _ = real_material(new)
    after = Compiler().compile(new, material, now=NOW).snapshots()["edge1"]
    found = choose(*(compiled(BASE)[0], new), compiled(BASE)[1], after)
    by_host = {one.host: one for one in found.questions}
    assert by_host["shop.example.com"].own_certificate and not by_host["shop.example.com"].refused
    assert by_host["bank.example.com"].refused and not by_host["bank.example.com"].own_certificate
    assert any("bank.example.com beyond its handshake" in one for one in found.unasked)


def test_what_the_edge_itself_answers_is_expected_of_it():
    [found] = chosen(route(prefix="/gone", service=None, respond={"status": 503})).questions
    assert found.expected == 503
    assert served(found, Reply(503, by_envoy=True))


PATHS = st.sampled_from(["/a", "/a/b", "/c", "/old", "/d"])
RULES = st.lists(
    st.tuples(st.sampled_from(["prefix", "exact", "regex"]), PATHS, st.sampled_from(["shop", "shop-v2"])),
    max_size=30, unique_by=lambda one: one[:2],
)  # fmt: skip


@settings(max_examples=25)
@given(RULES, st.integers(1, MOST), st.randoms())
def test_any_edit_gives_few_requests_each_once_and_the_same_whatever_the_order(rules, most, random):
    def change(edge, rules=rules):
        edge["routes"] = [
            {"domains": ["shop.example.com"], kind: path, "service": service} for kind, path, service in rules
        ]

    found = chosen(change, most=most)
    assert len(found.questions) <= most
    assert len({(one.scheme, one.host, one.path, one.headers) for one in found.questions}) == len(
        found.questions
    )
    assert all(one.line and one.method in ("GET", "HEAD") for one in found.questions)
    shuffled = list(rules)
    random.shuffle(shuffled)
    other = chosen(lambda edge: change(edge, shuffled), most=most)
    assert [str(one) for one in other.questions] == [str(one) for one in found.questions]
    old = {("prefix", "/old", "shop")}
    if set(rules) != old:
        assert found.questions, "something differs and nothing is asked"


ASKED = Question("https", "shop.example.com", 443)
REPLIES = st.builds(
    Reply,
    status=st.sampled_from([0, 200, 301, 403, 404, 421, 429, 500, 503]),
    by_envoy=st.booleans(),
    refused=st.sampled_from(["", "tlsv13 alert certificate required"]),
)


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        (Reply(200), True),
        (Reply(404), True),
        (Reply(404, by_envoy=True), False),
        (Reply(421, by_envoy=True), False),
        (Reply(403, by_envoy=True), True),
        (Reply(503, by_envoy=True), False),
        (Reply(500), False),
        (Reply(failed="connection refused"), False),
        (Reply(refused="unknown ca"), False),
    ],
)
def test_served_is_answered_with_anything_but_a_failure_of_the_edge(reply, good):
    assert served(ASKED, reply) is good


@given(REPLIES, REPLIES)
def test_a_canary_fails_exactly_where_what_was_served_is_not(before, after):
    verdict = judge("edge1", {ASKED: before}, {ASKED: after})
    worse = was_served(before) and not served(ASKED, after)
    assert bool(verdict.worse) == worse
    assert bool(verdict.neither) == (not was_served(before) and not served(ASKED, after))
    assert judge("edge1", {}, {ASKED: after}) == judge("edge1", {}, {})


def test_the_words_name_proxy_request_and_both_answers():
    verdict = judge("edge1", {ASKED: Reply(200)}, {ASKED: Reply(503, True, words="no healthy upstream")})
    assert verdict.worse[0][1] == (
        "edge1: GET https://shop.example.com/ was answered 503 by Envoy (no healthy upstream); "
        "before the change 200 by the backend"
    )
