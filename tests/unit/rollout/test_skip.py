"""Bad parts of a change: found by bisection, left out, and nothing else with them."""

from __future__ import annotations

import copy
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_site import DOCUMENT
from xds_agent.model import load_site
from xds_agent.rollout.skip.parts import SKIPPED, Part, Skipped, marked, parts_of, path_of, without
from xds_agent.rollout.skip.search import Verdict, search


class Oracle:
    """A shadow: refuses what holds a bad part, and cannot take what needs a part that is not there."""

    def __init__(self, bad, needs=None):
        self.bad, self.needs = set(bad), needs or {}
        self.asked = []

    def __call__(self, trial):
        self.asked.append(trial)
        if any(not self.needs.get(part, frozenset()) <= trial for part in trial):
            return Verdict.DANGLING
        return Verdict.REFUSED if self.bad & trial else Verdict.ACCEPTED


def found(parts, oracle):
    steps, verdict = search(parts), None
    while True:
        try:
            verdict = oracle(steps.send(verdict))
        except StopIteration as done:
            return done.value


@st.composite
def changes(draw):
    """(parts, bad ones, what each needs): needs point to any part but itself, without a circle."""
    parts = list(range(draw(st.integers(1, 40))))
    bad = draw(st.sets(st.sampled_from(parts), min_size=1, max_size=5))
    order = draw(st.permutations(parts))
    needs = {}
    for place, part in enumerate(order[1:], 1):
        needs[part] = draw(st.frozensets(st.sampled_from(order[:place]), max_size=2))
    return parts, bad, needs


def doomed(parts, bad, needs):
    """The bad ones and whatever leads to them."""
    out = set(bad)
    while more := {part for part in parts if part not in out and needs.get(part, frozenset()) & out}:
        out |= more
    return out


@given(changes())
def test_exactly_the_bad_and_what_needs_them_is_left_out(change):
    parts, bad, needs = change
    oracle = Oracle(bad, needs)
    result = found(parts, oracle)
    assert set(result.bad) == doomed(parts, bad, needs)
    assert result.good == frozenset(parts) - set(result.bad)
    assert not result.good or oracle(result.good) is Verdict.ACCEPTED


@given(st.integers(1, 500), st.data())
def test_few_trials_find_a_few_bad_ones(count, data):
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))
    oracle = Oracle(bad)
    assert set(found(list(range(count)), oracle).bad) == bad
    refused = [trial for trial in oracle.asked if bad & trial]
    assert len(refused) <= len(bad) * (math.ceil(math.log2(count)) + 1)
    assert len(oracle.asked) <= 2 * len(bad) * (math.ceil(math.log2(count)) + 1)


@given(changes())
def test_each_bad_part_comes_with_the_trial_that_showed_it(change):
    parts, bad, needs = change
    oracle = Oracle(bad, needs)
    for part, (trial, verdict) in found(parts, oracle).bad.items():
        assert part in trial
        if trial != frozenset(parts):
            assert oracle(trial) is verdict


def changed(edit):
    document = copy.deepcopy(DOCUMENT)
    document["origins"] = {
        "edge.services[shop]": "edge/shop.yml:3:5",
        "edge.routes[0]": "edge/routes.yml:2:5",
        "edge.routes[1].prefix": "edge/routes.yml:9:5",
        "edge.routes[2]": "edge/routes.yml:12:5",
        "hosts.edge1": "hosts.yml:1:1",
    }
    edit(document["edge"])
    return document


def route(prefix):
    return {"domains": ["shop.example.com"], "prefix": prefix, "service": "shop"}


def edit(edge):
    edge["services"][0]["timeout"] = "3s"
    edge["services"].append({"name": "new", "endpoints": [{"address": "10.0.0.9", "port": 1}]})
    edge["routes"] = [route("/a"), route("/b"), {**route("/old"), "timeout": "1s"}]
    edge["domains"].pop()
    edge["ports"] = {"https": 8443}


def test_parts_are_what_differs_leaders_first_and_what_goes_last():
    assert parts_of(DOCUMENT, DOCUMENT) == []
    parts = parts_of(DOCUMENT, changed(edit))
    assert [(one.kind, one.gone) for one in parts] == [
        ("services", False), ("services", False), ("routes", False), ("routes", False), ("routes", False),
        ("domains", True),
    ]  # fmt: skip
    paths = [path_of(DOCUMENT, changed(edit), one) for one in parts]
    assert paths == [
        "services[shop]", "services[new]", "routes[0]", "routes[1]", "routes[2]", "domains[bank.example.com]"
    ]  # fmt: skip


def test_without_nothing_it_is_the_change_and_without_everything_what_is_live():
    new = changed(edit)
    parts = parts_of(DOCUMENT, new)
    assert without(DOCUMENT, new, []) == new
    bare = without(DOCUMENT, new, parts)
    for kind in ("services", "domains", "routes", "certificates"):
        assert sorted(map(str, bare["edge"][kind])) == sorted(map(str, DOCUMENT["edge"][kind]))
    assert bare["edge"]["ports"] == {"https": 8443}, "what is no list of parts belongs to every trial"


@given(st.sets(st.integers(0, 5)))
def test_any_parts_may_be_left_out_and_origins_follow_what_they_speak_of(chosen):
    new = changed(edit)
    parts = parts_of(DOCUMENT, new)
    left_out = [parts[index] for index in chosen]
    less = without(DOCUMENT, new, left_out)
    assert set(parts_of(DOCUMENT, less)) == set(parts) - set(left_out)
    for index, rule in enumerate(less["edge"]["routes"]):
        place = less["origins"].get(
            f"edge.routes[{index}]", less["origins"].get(f"edge.routes[{index}].prefix")
        )
        if rule in new["edge"]["routes"]:
            assert place == f"edge/routes.yml:{(2, 9, 12)[new['edge']['routes'].index(rule)]}:5"
        else:
            assert place is None, "the old rule stands on no line of the new inventory"
    assert less["origins"]["hosts.edge1"] == "hosts.yml:1:1"


def test_what_is_put_together_is_a_site_when_what_it_leads_to_is_there():
    def add(edge):
        edge["domains"].append({"name": "x.example.com", "tenant": "retail", "certificate": "shop"})
        edge["routes"].append({"domains": ["x.example.com"], "prefix": "/", "service": "shop"})

    new = changed(add)
    load_site(without(DOCUMENT, new, [one for one in parts_of(DOCUMENT, new) if one.kind == "routes"]))


def test_rules_without_a_name_are_told_apart_by_what_they_match():
    def twice(edge):
        edge["routes"] += [route("/old"), {**route("/old"), "headers": [{"name": "x"}]}]

    keys = [part.key for part in parts_of(DOCUMENT, changed(twice))]
    assert len(keys) == len(set(keys)) == 2


def test_the_mark_of_what_was_left_out_goes_with_it():
    one = Skipped("routes[pay]", "edge/pay.yml:7:5", "invalid regex")
    document = marked({"edge": {}}, [one])
    assert document[SKIPPED] == [one.as_dict()]
    assert marked(document, []) == {"edge": {}}
    assert str(one) == "routes[pay] is left out until it is mended: invalid regex; edge/pay.yml:7"
    assert Part("routes", "pay") != Part("routes", "pay", gone=True)
