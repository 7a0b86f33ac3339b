"""How control's answers read."""

ANSWER = {
    "lines": [
        {"proxies": ["edge2", "edge1"], "text": "route /api of shop.example.com now goes 95 % shop, 5 % v2"},
        {"proxies": ["edge1", "edge2"], "text": "service chat is created"},
        {"proxies": ["egress1"], "text": "proxy egress1 is added"},
        {"proxies": [], "text": "certificate shop is issued"},
    ],
    "summary": "2 services, 3 proxies, 0 connections closed",
}


def test_the_diff_is_grouped_by_proxies_and_ends_in_one_sentence(utils):
    assert utils("fleet_text").diff_text(ANSWER) == (
        "edge1, edge2:\n"
        "  route /api of shop.example.com now goes 95 % shop, 5 % v2\n"
        "  service chat is created\n"
        "egress1:\n"
        "  proxy egress1 is added\n"
        "the site:\n"
        "  certificate shop is issued\n"
        "2 services, 3 proxies, 0 connections closed\n"
    )


def test_proxies_that_are_away_are_said(utils):
    answer = {"nodes": {"a": {"state": "offline"}, "b": {"state": "active"}}, "notes": ["qos: not yet"]}
    away, note = utils("fleet_text").warnings_of(answer)
    assert away.startswith("a is not connected and keeps the last good configuration")
    assert note == "qos: not yet"


def test_a_refusal_names_resource_line_and_what_is_live(utils):
    text = "services[shop]: edge1 refused cluster shop: bad ring; edge/shop.yml:3"
    answer = {"outcome": "refused", "reverted_to": 6, "problems": [{"text": text}], "nodes": {}}
    assert (
        utils("fleet_text").failure(answer) == f"the revision was refused; revision 6 is live again\n  {text}"
    )
    first = utils("fleet_text").failure({**answer, "reverted_to": None})
    assert "this was the first revision" in first


def test_pending_is_a_failure_and_offline_is_not(utils):
    failure = utils("fleet_text").failure
    assert (
        failure({"outcome": "live", "nodes": {"a": {"state": "offline"}, "b": {"state": "active"}}}) is None
    )
    assert "a did not acknowledge in time" in failure(
        {"outcome": "live", "nodes": {"a": {"state": "pending"}}}
    )


def test_a_late_refusal_of_what_is_live_is_a_failure(utils):
    answer = {"outcome": "unchanged", "nodes": {"a": {"state": "refused", "error": "no"}}}
    assert utils("fleet_text").failure(answer) == "a refused the live revision: a: no"


def test_problems_are_counted_and_listed(utils):
    problems_text = utils("fleet_text").problems_text
    assert problems_text([{"text": "x"}]) == "1 problem in the inventory:\n  x"
    assert problems_text([{"text": "x"}, {"message": "y"}]) == "2 problems in the inventory:\n  x\n  y"
