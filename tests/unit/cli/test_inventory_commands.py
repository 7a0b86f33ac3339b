"""validate, schema and diff: problems with their lines, and exit codes a script can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOOD: dict[str, Any] = {
    "schema": 1,
    "edge": {
        "certificates": [{"name": "shop"}],
        "domains": [{"name": "shop.example.com", "certificate": "shop"}],
        "services": [
            {
                "name": "shop",
                "domains": ["shop.example.com"],
                "endpoints": [{"address": "10.0.0.9", "port": 8080}],
                "qos": "P1",
            }
        ],
    },
    "hosts": {"edge1": {"address": "10.0.0.1", "groups": ["ingress"]}},
    "origins": {"edge.services[shop].endpoints[0].port": "inventory/edge/shop.yml:41:7"},
}


@pytest.fixture
def document(tmp_path: Path) -> Any:
    def write(content: Any) -> str:
        path = tmp_path / "site.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


def _bad() -> dict[str, Any]:
    bad = json.loads(json.dumps(GOOD))
    bad["edge"]["services"][0]["endpoints"][0]["port"] = 99999
    bad["edge"]["services"][0]["retires"] = 2
    return dict(bad)


def test_a_valid_document_is_counted_and_its_notes_are_said(run: Any, document: Any) -> None:
    path = document(GOOD)
    result = run("validate", path)
    assert result.exit_code == 0
    assert result.stdout == f"{path} is valid: 1 service, 1 domain, 0 routes, 1 certificate, 1 host\n"
    assert "services[shop].qos: classes of service" in result.stderr


def test_every_problem_is_one_line_as_compilers_write_them(run: Any, document: Any) -> None:
    result = run("validate", document(_bad()))
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    where = "inventory/edge/shop.yml:41: services[shop].endpoints[0].port: 99999 is not a port (1 to 65535)"
    assert where in lines
    assert any("did you mean 'retries'?" in line for line in lines)
    assert lines[-1].endswith("has 2 problems")


def test_more_probes_than_a_proxy_may_make_are_refused_with_the_sum(run: Any, document: Any) -> None:
    asking = json.loads(json.dumps(GOOD))
    asking["edge"]["limits"] = {"probes_per_second": 1}
    shop = asking["edge"]["services"][0]
    shop |= {"health": {"path": "/", "interval": "1s"}, "steering": {"order": ["aws", "gcp"]}}
    shop["endpoints"] = [
        {"address": f"10.0.0.{at}", "port": 80, "cloud": cloud, "region": region}
        for at, (cloud, region) in enumerate((("aws", "us-east-1"), ("gcp", "us-central1")), 1)
    ]
    asking["hosts"]["edge1"] |= {"cloud": "aws", "region": "us-east-1"}
    asking["origins"] = {"edge.limits.probes_per_second": "inventory/edge.yml:7:3"}
    result = run("validate", document(asking))
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "inventory/edge.yml:7: limits.probes_per_second: edge1 would have to make 2 http every 1 s (2.0) = "
        "2.0 probes a second, its budget is 1; make health.interval 2.00 times as long, or raise the budget\n"
    )
    asking["edge"]["limits"]["probes_per_second"] = 2
    assert run("validate", document(asking)).exit_code == 0


def test_validate_json_has_paths_and_origins(run: Any, document: Any) -> None:
    answer = json.loads(run("validate", "--json", document(_bad())).stdout)
    assert answer["valid"] is False
    assert answer["problems"][0].keys() >= {"path", "message", "fix", "origin"}
    good = json.loads(run("validate", "--json", document(GOOD)).stdout)
    assert (good["valid"], good["counts"]["services"], len(good["notes"])) == (True, 1, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b'{"\xff": 1}', "is not UTF-8"),
        (b"[]", "holds no object"),
        (b"{}", "schema None"),
    ],
)
def test_what_is_no_document_is_one_sentence(run: Any, document: Any, content: bytes, words: str) -> None:
    result = run("validate", document(content))
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_path_that_is_not_there(run: Any, tmp_path: Path) -> None:
    result = run("validate", str(tmp_path / "nowhere"))
    assert (result.exit_code, "does not exist" in result.stderr) == (1, True)


def test_the_schema_goes_to_stdout_or_to_a_file(run: Any, tmp_path: Path) -> None:
    printed = run("schema").stdout
    assert "services" in json.loads(printed)["properties"]
    target = tmp_path / "schema.json"
    assert run("schema", "-o", str(target)).exit_code == 0
    assert target.read_text() == printed
    refused = run("schema", "-o", str(tmp_path / "no" / "folder.json"))
    assert (refused.exit_code, "cannot be written" in refused.stderr) == (1, True)


def test_diff_ends_with_2_for_changes_and_0_for_none(run: Any, control: Any, document: Any) -> None:
    changed = {
        "changed": True,
        "lines": [{"proxies": ["edge1"], "text": "shop: timeout 15s -> 3s"}],
        "summary": "1 service, 1 proxy, 0 connections closed",
    }
    control.answers["/v1/revisions"] = (200, changed)
    result = run("diff", document(GOOD))
    assert result.exit_code == 2
    assert result.stdout == "edge1:\n  shop: timeout 15s -> 3s\n1 service, 1 proxy, 0 connections closed\n"
    sent = control.asked[-1][2]
    assert (sent["dry_run"], sent["document"]) == (True, GOOD)
    control.answers["/v1/revisions"] = (200, {"changed": False, "lines": [], "summary": "nothing changes"})
    result = run("diff", document(GOOD))
    assert (result.exit_code, result.stdout) == (0, "nothing changes\n")


def test_diff_shows_controls_problems_and_ends_with_1(run: Any, control: Any, document: Any) -> None:
    problem = {"path": "services[shop]", "message": "is bad", "fix": "mend it", "origin": "shop.yml:3:5"}
    control.answers["/v1/revisions"] = (422, {"problems": [problem]})
    result = run("diff", document(GOOD))
    assert result.exit_code == 1
    assert "shop.yml:3: services[shop]: is bad; mend it" in result.stderr


def test_diff_says_why_control_refuses(run: Any, control: Any, document: Any) -> None:
    control.answers["/v1/revisions"] = (409, {"error": "service x would be removed", "remedy": "say so"})
    result = run("diff", document(GOOD))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["xds-agent: service x would be removed", "  say so"]
