"""What a stack lives through, with the real engine on a small program; test_site_lifecycle has the rest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pulumi.conftest import PASSPHRASE, Stack

HOST = "edge-aws-us-east-1-1"


def wait_until(holds: Callable[[], bool], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.1)


def test_made_unchanged_and_destroyed_to_nothing(aws: Stack) -> None:
    """A preview promises, `up` keeps it, a second one changes nothing, `destroy` leaves nothing."""
    promised = aws.must("preview")
    assert "+ 18 to create" in promised, promised
    assert not (aws.place / "world" / "aws.json").exists(), "a preview touches no cloud"
    aws.up()
    inventory = aws.inventory()
    assert [host["private_address"].rpartition(".")[0] for host in inventory["hosts"]] == ["10.201.0"] * 2
    assert {int(host["private_address"].rpartition(".")[2]) for host in inventory["hosts"]} == {4, 5}, (
        "AWS keeps the first four addresses of a subnet"
    )
    assert "18 unchanged" in aws.must("up", "--yes", "--expect-no-changes")
    assert "18 unchanged" in aws.must("refresh", "--yes", "--expect-no-changes")
    aws.must("destroy", "--yes")
    assert aws.held() == []
    assert aws.state() == []


def test_throttling_only_takes_time(aws: Stack) -> None:
    """A throttled call is asked again by the provider; the user is told and has nothing to do."""
    said = aws.must("up", "--yes", "--skip-preview", faults=("create:Vpc:1:throttle",))
    assert "RequestLimitExceeded" in said and "18 created" in said


def _only_the_network_is_missing(stack: Stack) -> bool:
    """Whatever else was killed while being made would be in the cloud and unknown, as with real clouds."""
    pending, made = stack.written()
    return pending == ["Vpc"] and made.count("Eip") == 2 and "InstanceProfile" in made


def _serving(stack: Stack) -> list[int]:
    """Processes that some engine of the stack has started and that are still there."""
    world = f"SIMCLOUD_WORLD={stack.place / 'world'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if world in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def test_a_killed_run_leaves_a_lock_that_cancel_takes_away(aws: Stack) -> None:
    """A run that was killed holds the stack; the words name the remedy, after which `up` repairs it.

    Nothing that it had started outlives it.
    """
    running = aws.start("up", "--yes", "--skip-preview", faults=("create:Vpc:1:slow",))
    try:
        wait_until(lambda: _only_the_network_is_missing(aws))
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    wait_until(lambda: not _serving(aws))
    locked = aws.run("up", "--yes", "--skip-preview")
    assert locked.returncode != 0 and "pulumi cancel" in locked.stdout, locked.stdout
    aws.must("cancel", "--yes")
    aws.must("refresh", "--yes", "--clear-pending-creates")
    aws.up()
    assert len(aws.inventory()["hosts"]) == 2


def test_a_host_that_exists_is_adopted(aws: Stack) -> None:
    """An instance that the stack has forgotten is imported, not made anew."""
    aws.up()
    known = aws.inventory()["hosts"][0]["id"]
    urn = next(each["urn"] for each in aws.of("Instance") if each["id"] == known)
    aws.must("state", "delete", urn, "--target-dependents", "--yes")
    assert known not in {each["id"] for each in aws.of("Instance")}
    aws.configure(adopt=known)
    aws.up()
    assert known in {each["id"] for each in aws.of("Instance")}


def test_a_secret_is_nowhere_in_plain_text(aws: Stack) -> None:
    """The hosts' key: not in what is said, not in outputs, not in the engine's state."""
    secret = "PRIVATE-KEY-OF-THE-HOST-4711"
    aws.must("config", "set", "--secret", "hostKey", secret)
    said = aws.must("up", "--yes", "--diff")
    said += aws.must("stack", "output", "--json") + aws.must("stack", "export")
    assert secret not in said
    for file in (aws.place / "state").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    for file in (aws.place / "project").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    known = [record for record in aws.held() if record["token"].endswith(":Instance")]
    assert all(record["inputs"]["userData"] == secret for record in known), "the cloud itself has to know it"
    assert PASSPHRASE not in said


def test_state_survives_the_loss_of_everything_but_the_backend(aws: Stack) -> None:
    """Another machine with the backend's folder goes on; who only reads hosts needs no passphrase."""
    aws.up()
    shutil.rmtree(aws.place / "home")
    aws.must("stack", "select", aws.name)
    aws.must("up", "--yes", "--expect-no-changes")
    aws.environment["PULUMI_CONFIG_PASSPHRASE"] = "another"
    assert (
        json.loads(aws.must("stack", "output", "--json"))["edge_inventory"]["schema"] == "edge.inventory/v1"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"subnet": "10.99.0.0/26"}, "InvalidSubnet.Range"), ({"type": "c99.huge"}, "is not a instance type")],
    ids=["when it is made", "before"],
)
def test_what_the_cloud_refuses_is_said(aws: Stack, settings: dict[str, str], words: str) -> None:
    """Impossible values meet the cloud's refusal, not an echo; tests/unit/simcloud has more of them."""
    aws.configure(**settings)
    refused = aws.run("up", "--yes", "--skip-preview")
    assert refused.returncode != 0
    assert words in refused.stdout, refused.stdout
