"""How demonstrations judge what came, and how the command lists them."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from lab import steady
from lab.cli import main
from lab.demos import bad_change, datapath, failover, steering
from lab.demos.catalogue import DEMOS
from lab.demos.stage import Shown, show
from lab.place import ROOT, HostSpec
from lab.playbooks import Ended, _message

PROXY = HostSpec("edge1", "c", "n", "10.128.1.11", ("ingress",), "aws")
EDIT = bad_change.EDITS[0]


def test_an_edit_must_fail_and_with_the_words_it_promises() -> None:
    good = Ended(False, 0, "the shadow of edge1 refused: invalid repetition size; edge/demo-bad-change.yml:2")
    assert bad_change._judged(EDIT, good).as_claimed
    assert not bad_change._judged(EDIT, Ended(False, 0, "control cannot be reached")).as_claimed
    assert bad_change._judged(EDIT, Ended(True, 1)) == Shown(EDIT.claim, "the play went through", False)


def test_an_edit_of_the_datapath_has_to_be_announced_in_full() -> None:
    diff = "  echo-xdp: ...\n  echo: bandwidth set to (egress 8mbit)\n  protection.deny gains 10.128.9.3/32\n"
    assert datapath.announced(Ended(True, 1, diff=diff), "10.128.9.3/32").as_claimed
    for line in diff.splitlines(keepends=True):
        ended = Ended(True, 1, diff=diff.replace(line, ""))
        assert not datapath.announced(ended, "10.128.9.3/32").as_claimed
    assert not datapath.announced(Ended(True, 1, diff=diff), "10.128.9.2/32").as_claimed


def test_one_failed_request_spoils_the_demonstration() -> None:
    kept, lost = steady.Watch(PROXY, met=["200"] * 5), steady.Watch(PROXY, met=["200", "503"])
    assert bad_change.lossless([kept]).as_claimed
    spoilt = bad_change.lossless([kept, lost])
    assert not spoilt.as_claimed and "1 failed of 7 requests" in spoilt.came and "1 times 503" in spoilt.came
    assert not bad_change.lossless([steady.Watch(PROXY)]).as_claimed, "no traffic proves nothing"


def test_the_message_is_that_of_the_task_that_failed() -> None:
    hosts = [{"hosts": {"edge1": {"failed": False}}}, {"hosts": {"control1": {"failed": True, "msg": "no"}}}]
    assert _message({"plays": [{"tasks": hosts}]}, "") == "no"
    assert _message({"plays": []}, "the end") == "the end"


def test_every_demonstration_has_a_name_of_its_own_and_a_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert len({one.name for one in DEMOS}) == len(DEMOS)
    for one in DEMOS:
        with pytest.raises(SystemExit) as ended:
            main(["demo", one.name, "--help"])
        assert ended.value.code == 0
        assert one.story.strip().splitlines()[0] in capsys.readouterr().out


def test_a_demonstration_nobody_knows_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "nonsense"])
    assert ended.value.code == 2
    assert "bad-change" in capsys.readouterr().err


def test_the_table_says_what_was_not_so() -> None:
    text = io.StringIO()
    show([Shown("a", "b", True), Shown("c", "[d]", False)], Console(file=text, width=100))
    assert "[d]" in text.getvalue() and "1 of 2 not as claimed" in text.getvalue()
    assert json.dumps(Shown("a", "b", True).as_json())


def test_a_share_is_as_far_off_as_its_worst_cloud_and_what_failed_counts() -> None:
    said = {("aws us-east-1", "s"): {"gcp": 0.75, "azure": 0.25}}
    counted = steering.Counted(Counter({"gcp": 70, "azure": 28, "503": 2}))
    assert steering._off(said, "aws us-east-1", "s", counted) == pytest.approx(0.05)
    assert counted.failed == 2
    # Of a service that nobody said anything about nothing was to be counted.
    assert steering._off(said, "aws us-east-1", "other", counted) == pytest.approx(0.7)


def test_shares_that_moved_by_a_point_have_not_come_to_rest() -> None:
    before = {("p", "s"): {"gcp": 0.50, "azure": 0.50}}
    assert not steering._differ(before, {("p", "s"): {"gcp": 0.505, "azure": 0.495}})
    assert steering._differ(before, {("p", "s"): {"gcp": 0.52, "azure": 0.48}})
    assert steering._differ(before, {})


@pytest.mark.parametrize("command", [failover.BROWN, failover.SLOW])
def test_a_fault_finds_what_it_changes_in_the_backends_configuration(command: str, tmp_path: Path) -> None:
    """Made and mended on a copy of the template, with the same date afterwards: site.yml restarts nothing."""
    template = (ROOT / "roles/backend/templates/nginx.conf.j2").read_text()
    configuration, kept = tmp_path / "backend.conf", tmp_path / "kept.conf"
    configuration.write_text(template)
    os.utime(configuration, (1_000_000_000, 1_000_000_000))

    def run(words: str) -> None:
        words = words.replace(failover.CONFIGURATION, str(configuration)).replace(failover.KEPT, str(kept))
        subprocess.run(["sh", "-ec", words.replace("nginx -s reload", "true")], check=True)

    run(command)
    run(command)
    broken = configuration.read_text()
    assert "location / { return 503;" in broken or "location / { limit_req" in broken
    assert "location = /healthz {" in broken
    run(failover.MENDED)
    assert configuration.read_text() == template and not kept.exists()
    assert configuration.stat().st_mtime == 1_000_000_000
