"""A reviewed change: named by where it starts and where it leads; a refusal says which of them moved."""

import copy
import json

import pytest

from xds_agent.cli.review import markdown
from xds_agent.model import split_secrets
from xds_agent.rollout.change import Conflict
from xds_agent.rollout.plan import FORMAT, check_plan, plan_of, stand_in
from xds_agent.rollout.review import BadLive, review


def exported(document):
    return {"format": FORMAT, "number": 41, "document": split_secrets(document)[0]}


@pytest.fixture
def edited(document):
    new = copy.deepcopy(document)
    new["edge"]["services"][0]["timeout"] = "3s"
    return new


def test_a_review_away_from_control_says_what_a_dry_run_says(document, edited):
    answer = review(edited, exported(document))
    assert answer["lines"] == [{"proxies": ["edge1", "edge2"], "text": "shop: timeout 15s -> 3s"}]
    assert answer["summary"] == "1 service, 2 proxies, 0 connections closed"
    assert (answer["changed"], answer["against"]) == (True, 41)
    assert review(document, exported(document))["changed"] is False


def test_the_name_of_a_plan_does_not_depend_on_the_secrets_values(document, edited):
    shop = edited["edge"]["services"][0]
    shop["auth"] = {"type": "token", "tokens": {"partner": "planted-7d1f03ab"}}
    known = plan_of(split_secrets(document)[0], split_secrets(edited)[0])
    shop["auth"]["tokens"]["partner"] = stand_in("edge.services[shop].auth.tokens[partner]")
    answer = review(edited, exported(document))
    assert answer["plan"] == known
    assert "planted" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [("a", "b", None), ("x", "b", "what is live has moved"), ("a", "x", "the inventory has moved")],
)
def test_only_what_was_reviewed_is_applied(start, end, words):
    reviewed, actual = f"{'a' * 16}-{'b' * 16}", f"{start * 16}-{end * 16}"
    if words is None:
        check_plan(reviewed, actual, None)
        return
    with pytest.raises(Conflict, match=words) as refused:
        check_plan(reviewed, actual, None)
    assert actual in refused.value.remedy


def test_a_plan_that_is_live_already_is_no_mistake_and_a_typo_is():
    check_plan(f"{'a' * 16}-{'b' * 16}", f"{'b' * 16}-{'b' * 16}", None)
    with pytest.raises(Conflict, match="is no plan"):
        check_plan("abc", f"{'a' * 16}-{'b' * 16}", None)


def test_removals_are_named_for_whoever_applies_it(document):
    less = copy.deepcopy(document)
    del less["edge"]["services"][1], less["edge"]["domains"][1]
    answer = review(less, exported(document))
    assert answer["removals"] == ["vault"]
    assert "`-e allow_removal=vault`" in markdown(answer)


def test_markdown_holds_the_plan_and_nothing_that_the_inventory_could_turn_into_a_link(document, edited):
    text = markdown({**review(edited, exported(document)), "notes": ["see [x](http://evil) @all"]})
    assert "**edge1, edge2**\n- shop: timeout 15s -\\> 3s" in text
    assert "-e plan=" in text
    assert "\\[x\\](http://evil) \\@all" in text


def test_a_file_that_is_no_live_json_is_refused(document):
    with pytest.raises(BadLive):
        review(document, {"format": "another"})
