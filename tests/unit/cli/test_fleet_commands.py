"""status, history, explain and rollback: what they show, what they ask, how they end."""

from __future__ import annotations

import json
from typing import Any

from xds_agent.rollout.build import Behind

STATUS: dict[str, Any] = {
    "name": "control1",
    "revision": {
        "number": 7,
        "revision": "abc",
        "author": "ada@desk",
        "created": "2026-11-25T03:05:14+00:00",
        "summary": "1 service, 2 proxies, 0 connections closed",
    },
    "trouble": "",
    "applying": "",
    "nodes": {
        "edge-aws1": {
            "state": "active",
            "revision": "r1",
            "wanted": "r1",
            "roles": ["ingress", "l4"],
            "cloud": "aws",
            "phase": "serving",
            "certificate_until": "2026-12-25T03:00:00+01:00",
            "survives_until": "2026-12-20T00:00:00+00:00",
        },
        "edge-gcp1": {"state": "offline", "revision": "r0", "wanted": "r1", "error": ""},
    },
}
REVISION = {
    "number": 7,
    "author": "ada@desk",
    "reason": "CHG-812",
    "commit": "0123456789abcdef",
    "created": "2026-11-25T03:05:14+00:00",
    "outcome": "live",
    "summary": "1 service, 2 proxies, 0 connections closed",
}
ANSWER = {
    "outcome": "live",
    "number": 8,
    "changed": True,
    "lines": [
        {"proxies": ["edge-aws1", "edge-aws2"], "text": "shop: timeout 15s -> 3s"},
        {"proxies": [], "text": "host backend1 leaves the inventory"},
    ],
    "summary": "1 service, 2 proxies, 0 connections closed",
    "nodes": {"edge-aws1": {"state": "active"}, "edge-gcp1": {"state": "offline"}},
}


def test_status_names_every_proxy_and_how_long_it_survives(run: Any, control: Any) -> None:
    control.answers["/v1/status"] = (200, STATUS)
    result = run("status")
    assert result.exit_code == 0
    first, headings, aws, gcp = result.stdout.rstrip().split("\n")
    assert first.startswith("control1: revision 7 (abc) of 2026-11-25 03:05:14 UTC by ada@desk")
    assert "ALONE UNTIL" in headings
    assert aws.split() == [
        *("edge-aws1", "ingress,l4", "aws", "active", "serving", "r1", "r1", "-"),
        *("2026-12-25", "02:00:00", "2026-12-20", "00:00:00", "-"),
    ]
    assert gcp.split()[:4] == ["edge-gcp1", "-", "-", "offline"]


def test_status_ends_with_1_when_a_proxy_refuses_or_control_is_in_trouble(run: Any, control: Any) -> None:
    refused = {**STATUS, "nodes": {"edge-aws1": {"state": "refused", "error": "bad ring"}}}
    control.answers["/v1/status"] = (200, refused)
    result = run("status")
    assert (result.exit_code, "bad ring" in result.stdout) == (1, True)
    control.answers["/v1/status"] = (200, {**STATUS, "trouble": "revision 7 could not be loaded"})
    result = run("status")
    assert result.exit_code == 1
    assert "could not be loaded" in result.stderr


def test_status_says_that_proxies_hold_what_an_older_compiler_made(run: Any, control: Any) -> None:
    behind = Behind("1", missed="edge-aws1 is lost")
    control.answers["/v1/status"] = (200, {**STATUS, "behind": behind.as_dict()})
    result = run("status")
    assert (result.exit_code, behind.words in result.stdout) == (0, True)


def test_status_shows_what_is_in_force_beside_the_inventory_once(run: Any, control: Any) -> None:
    """A denial by hand is drift that whoever looks must see; words said above are not repeated."""
    behind = Behind("1", missed="edge-aws1 is lost")
    drift = "drift: 10.1.2.3/32 is denied by hand until 2026-11-28T12:00:40+00:00, by ada"
    answer = {**STATUS, "behind": behind.as_dict(), "notes": [behind.words, drift]}
    control.answers["/v1/status"] = (200, answer)
    result = run("status")
    assert result.stdout.splitlines()[-1] == f"note: {drift}"
    assert result.stdout.count(behind.words) == 1


def test_json_is_what_control_said_and_nothing_else(run: Any, control: Any) -> None:
    control.answers["/v1/status"] = (200, STATUS)
    assert json.loads(run("status", "--json").stdout) == STATUS


def test_before_the_first_revision_the_remedy_is_said(run: Any, control: Any) -> None:
    control.answers["/v1/status"] = (200, {"name": "control1", "revision": None, "nodes": {}})
    assert "run playbooks/routes.yml" in run("status").stdout
    control.answers["/v1/history"] = (200, {"revisions": []})
    assert "run playbooks/routes.yml" in run("history").stdout


def test_history_is_a_table_that_a_pipe_does_not_cut(run: Any, control: Any) -> None:
    control.answers["/v1/history"] = (200, {"revisions": [REVISION]})
    result = run("history", "-n", "5")
    assert control.asked[-1][1] == "/v1/history?limit=5"
    row = result.stdout.splitlines()[1]
    assert row.startswith("7 ")
    assert row.rstrip().endswith("CHG-812  0123456789ab  1 service, 2 proxies, 0 connections closed")


def test_explain_asks_with_everything_it_was_given(run: Any, control: Any) -> None:
    one = {
        "proxies": ["edge-aws1"],
        "request": "GET https://shop.example.com/",
        "verdict": "forwarded",
        "sentence": "the request goes to shop",
        "steps": [
            {
                "kind": "route",
                "name": "/",
                "text": "",
                "path": "services[shop].domains",
                "origin": "edge/shop.yml:3:5",
            }
        ],
        "backends": [
            {"address": "10.0.0.9:80", "cluster": "shop", "priority": 0, "weight": 1, "place": "aws"}
        ],
    }
    control.answers["/v1/explain"] = (200, {"explanations": [one]})
    result = run(
        "explain", "https://shop.example.com/", "-H", "X-Beta: yes", "--client-cert", "--proxy", "e1"
    )
    query = control.asked[-1][1]
    for part in ("host=e1", "client_certificate=1", "header=x-beta%3Ayes", "method=GET"):
        assert part in query
    assert "route     /  <- services[shop].domains, edge/shop.yml:3" in result.stdout
    assert "endpoint  10.0.0.9:80 of shop (priority 0, weight 1, aws)" in result.stdout


def test_a_header_without_colon_is_explained(run: Any) -> None:
    result = run("explain", "https://shop.example.com/", "-H", "x-beta")
    assert result.exit_code == 1
    assert "write it as 'name: value'" in result.stderr


def test_rollback_says_what_changes_and_who_is_not_there_yet(run: Any, control: Any) -> None:
    control.answers["/v1/rollback"] = (200, ANSWER)
    result = run("rollback", "6", "--reason", "INC-1")
    assert result.exit_code == 0
    assert control.asked[-1][2] | {"author": ""} == {
        **{"number": 6, "author": "", "reason": "INC-1"},
        **{"dry_run": False, "timeout_s": 60.0},
    }
    assert result.stdout.splitlines() == [
        "edge-aws1, edge-aws2:",
        "  shop: timeout 15s -> 3s",
        "the site:",
        "  host backend1 leaves the inventory",
        "1 service, 2 proxies, 0 connections closed",
        "revision 8 is live; not yet on edge-gcp1",
    ]


def test_a_refused_rollback_ends_with_1_and_envoys_words(run: Any, control: Any) -> None:
    problem = {"path": "services[shop]", "message": "edge-aws1 refused cluster shop: bad ring", "fix": ""}
    refused = {**ANSWER, "outcome": "refused", "reverted_to": 7, "problems": [problem]}
    control.answers["/v1/rollback"] = (200, refused)
    result = run("rollback", "6")
    assert result.exit_code == 1
    assert "revision 7 is live again" in result.stderr
    assert "services[shop]: edge-aws1 refused cluster shop: bad ring" in result.stderr


def test_proxies_that_have_not_answered_in_time_are_a_failure(run: Any, control: Any) -> None:
    control.answers["/v1/rollback"] = (200, {**ANSWER, "nodes": {"edge-aws1": {"state": "pending"}}})
    assert run("rollback", "6").exit_code == 1


DIFFERENCES = {
    "name": "edge-aws1",
    "wanted": "r1",
    "differences": [{"type": "cluster", "name": "shop", "text": "Envoy does not have it"}],
}


def test_diff_of_a_proxy_has_three_ends(run: Any, control: Any) -> None:
    control.answers["/v1/nodes/edge-aws1/diff"] = (200, DIFFERENCES)
    result = run("diff", "edge-aws1")
    assert (result.exit_code, result.stdout) == (2, "edge-aws1:\n  cluster shop: Envoy does not have it\n")
    control.answers["/v1/nodes/edge-aws1/diff"] = (200, {**DIFFERENCES, "differences": []})
    assert run("diff", "edge-aws1").exit_code == 0
    control.answers["/v1/nodes/edge-aws1/diff"] = (
        409,
        {"error": "edge-aws1 is offline", "remedy": "start it"},
    )
    result = run("diff", "edge-aws1")
    assert (result.exit_code, "edge-aws1 is offline" in result.stderr) == (1, True)


def test_status_of_one_proxy_lists_its_resources_when_asked(run: Any, control: Any) -> None:
    node = {**STATUS["nodes"]["edge-aws1"], "name": "edge-aws1", "facts": {"envoy": "1.40.0"}}
    origin = {"path": "services[shop]", "origin": "edge/shop.yml:3:5"}
    node["resources"] = [{"type": "cluster", "name": "shop", "version": "v1", **origin}]
    control.answers["/v1/nodes/edge-aws1"] = (200, node)
    assert "TYPE" not in run("status", "edge-aws1").stdout
    last = run("status", "edge-aws1", "--resources").stdout.splitlines()[-1]
    assert last.split()[:3] == ["cluster", "shop", "v1"]
    assert "services[shop], edge/shop.yml:3" in last
    assert run("status", "--resources").exit_code == 1


def test_watch_shows_status_again_until_it_is_interrupted(run: Any, control: Any, monkeypatch: Any) -> None:
    control.answers["/v1/status"] = (200, STATUS)
    rounds = []

    def pause(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("xds_agent.cli.status.time.sleep", pause)
    result = run("status", "--watch")
    assert (result.exit_code, result.stdout.count("control1: revision 7")) == (0, 3)


def test_history_with_diff_says_the_words_of_that_change(run: Any, control: Any) -> None:
    row = {**REVISION, "lines": ANSWER["lines"], "document": {"edge": {}}}
    control.answers["/v1/revisions/7"] = (200, row)
    result = run("history", "7", "--diff")
    assert result.stdout.splitlines()[0].startswith("revision 7: live, 2026-11-25 03:05:14 UTC, by ada@desk")
    assert "  shop: timeout 15s -> 3s" in result.stdout.splitlines()
    assert "document" not in json.loads(run("history", "7", "--json").stdout)["revisions"][0]


def test_explain_says_who_does_not_serve_it_yet(run: Any, control: Any) -> None:
    words = "offline (on its own): it serves revision r0, which may say otherwise"
    control.answers["/v1/explain"] = (200, {"explanations": [], "pending": {"edge-gcp1": words}})
    assert f"edge-gcp1 is {words}" in run("explain", "https://shop.example.com/").stdout


def test_deny_says_what_it_replaces_and_that_an_address_stands_for_its_network(
    run: Any, control: Any
) -> None:
    """At 3 a.m. a longer time than before, or 255 neighbours more, must not go unnoticed."""
    answer = {"denied": "10.1.2.0/24", "until": "2026-11-28T13:00:00+00:00", "was_until": None}
    control.answers["/v1/denials"] = (200, answer)
    result = run("deny", "10.1.2.0/24")
    assert (result.stdout, result.stderr) == ("10.1.2.0/24 is denied until 2026-11-28 13:00:00 UTC\n", "")
    control.answers["/v1/denials"] = (200, {**answer, "was_until": "2026-11-28T12:00:20+00:00"})
    result = run("deny", "10.1.2.3/24")
    assert "until 2026-11-28 13:00:00 UTC (was until 2026-11-28 12:00:20 UTC)" in result.stdout
    assert "10.1.2.3/24 is an address within 10.1.2.0/24: all of that is denied" in result.stderr


def test_a_frame_that_is_not_hexadecimal_is_quoted(run: Any) -> None:
    result = run("explain-packet", "--hex", "zz")
    assert result.exit_code == 1
    assert "--hex: not hexadecimal: zz" in result.stderr
