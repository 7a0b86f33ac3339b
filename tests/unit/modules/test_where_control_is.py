"""Which host a fleet-wide task runs on."""

import pytest

GROUPS = {"control": ["control1", "control2"], "ingress": ["edge1"]}


def test_the_first_control_host_of_the_play_does_it(utils):
    who_runs = utils("where_control_is").who_runs
    assert (
        who_runs({"groups": GROUPS, "ansible_play_hosts_all": ["control1", "control2"]}).chosen == "control1"
    )
    found = who_runs({"groups": GROUPS, "ansible_play_hosts_all": ["control2"], "ansible_limit": "control2"})
    assert (found.chosen, found.problem) == ("control2", "")


def test_no_control_group_is_a_sentence(utils):
    assert "no host in group control" in utils("where_control_is").who_runs({"groups": {}}).problem


@pytest.mark.parametrize("limit", ["edge1", "edge1:edge2", "aws"])
def test_a_limit_without_control_is_a_sentence(utils, limit):
    found = utils("where_control_is").who_runs(
        {"groups": GROUPS, "ansible_play_hosts_all": ["edge1"], "ansible_limit": limit}
    )
    assert f"--limit {limit} leaves out control (control1, control2)" in found.problem


@pytest.mark.parametrize("limit", ["all", "control", "edge1,control1", "edge1:control"])
def test_a_limit_with_control_is_none_also_when_delegated(utils, limit):
    found = utils("where_control_is").who_runs(
        {"groups": GROUPS, "ansible_play_hosts_all": ["localhost"], "ansible_limit": limit}
    )
    assert found.problem == ""
