"""The command against a real `xds-agent serve`: no canned answers."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.serve_process import ROOT
from tests.support.small_site import DOCUMENT


@pytest.fixture
def cli(serve, tmp_path):
    """cli("status", ...) against the running control; a document is handed over as the file's name."""

    def call(*arguments, document=None):
        if document is not None:
            path = tmp_path / "site.json"
            path.write_text(json.dumps(document))
            arguments = (*arguments, str(path))
        env = os.environ | {"XDS_AGENT_SOCKET": str(serve.socket)}
        command = [sys.executable, "-m", "xds_agent", *arguments]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)

    serve.start()
    return call


@pytest.fixture
def live(serve, cli):
    answer = serve.post("/v1/revisions", {"document": DOCUMENT, "author": "ada", "reason": "first"})
    assert answer.status_code == 200, answer.text
    return cli


def test_before_anything_is_live(cli):
    assert "nothing is live yet" in cli("status").stdout
    first = cli("diff", document=DOCUMENT)
    assert first.returncode == 2, first.stderr
    assert "new service shop: http on shop.example.com, 2 endpoints in aws and gcp" in first.stdout
    missing = cli("explain", "https://shop.example.com/")
    assert (missing.returncode, "nothing is live yet" in missing.stderr) == (1, True)


def test_diff_compares_with_what_is_live(live):
    same = live("diff", document=DOCUMENT)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "nothing changes")
    changed = json.loads(json.dumps(DOCUMENT))
    changed["edge"]["services"][0]["timeout"] = "3s"
    other = live("diff", document=changed)
    assert other.returncode == 2, other.stderr
    *said, plan = other.stdout.splitlines()
    assert said == [
        "edge1, edge2:",
        "  shop: timeout 15s -> 3s",
        "1 service, 2 proxies, 0 connections closed",
    ]
    assert re.fullmatch("plan [0-9a-f]{16}-[0-9a-f]{16}", plan)
    assert live("diff", document=DOCUMENT).returncode == 0


def test_diff_names_problems_with_their_lines(live):
    broken = json.loads(json.dumps(DOCUMENT))
    broken["edge"]["services"][0]["endpoints"][0]["port"] = 99999
    done = live("diff", document=broken)
    assert done.returncode == 1
    assert "edge/shop.yml:3: services[shop].endpoints[0].port: 99999 is not a port" in done.stderr


def test_status_history_and_explain_of_what_is_live(live):
    status = live("status")
    assert status.returncode == 0, status.stderr
    rows = [line.split() for line in status.stdout.splitlines()[1:]]
    assert [row[:4] for row in rows[1:]] == [
        ["edge1", "ingress", "aws", "offline"],
        ["edge2", "ingress", "gcp", "offline"],
    ]
    assert "ada" in live("history").stdout
    said = live("explain", "https://shop.example.com/old")
    assert said.returncode == 0, said.stderr
    assert "the request goes to shop" in said.stdout
    assert "services[shop], edge/shop.yml:3" in said.stdout
    wrong = live("explain", "gopher://shop.example.com/")
    assert (wrong.returncode, "gopher:// is not known" in wrong.stderr) == (1, True)


def test_rollback_brings_an_earlier_revision_back(live, serve):
    changed = json.loads(json.dumps(DOCUMENT))
    changed["edge"]["services"][0]["timeout"] = "3s"
    assert serve.post("/v1/revisions", {"document": changed, "author": "ada"}).status_code == 200
    dry = live("rollback", "1", "--dry-run")
    assert (dry.returncode, "shop: timeout 3s -> 15s" in dry.stdout) == (0, True)
    done = live("rollback", "1", "--reason", "INC-1")
    assert done.returncode == 0, done.stderr
    assert "is live; not yet on edge1, edge2" in done.stdout
    newest = json.loads(live("history", "-n", "1", "--json").stdout)["revisions"][0]
    assert newest["reason"] == "rollback to revision 1: INC-1"
    assert live("rollback", "99").returncode == 1
