"""What playbooks decide by: when an upgrade goes on, whom it asks, what a control of before is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).parents[3]
BEHIND = {"compiler": "1", "refused": "", "missed": "", "words": "..."}
OFFLINE = {"nodes": {"edge1": {"state": "offline"}}}
# The click of a control agent whose `revoke` has no such option.
BEFORE = """#!/bin/sh
case "$*" in *--author*) echo "Error: No such option: --author" >&2; exit 2;; esac
echo "$@" > "$0.said"
echo '{"changed": true}'
"""
BROKEN = "#!/bin/sh\necho 'no control answers' >&2\nexit 3\n"


def task_of(playbook: str, register: str) -> dict[str, Any]:
    plays = yaml.safe_load((ROOT / "playbooks" / playbook).read_text())
    tasks = [task for play in plays for task in play.get("tasks", ())]
    tasks += [inner for task in tasks for inner in task.get("block", ())]
    [found] = [task for task in tasks if task.get("register") == register]
    return found


@pytest.mark.parametrize(
    ("more", "on"),
    [
        ({"behind": None}, True),
        ({}, True),
        ({"behind": BEHIND}, False),
        ({"behind": BEHIND | {"missed": "edge1 is lost"}}, False),
        ({"behind": BEHIND | {"refused": "no such field"}}, True),
        ({"behind": None, "rollout": {"wave": 1}}, False),
        ({"behind": BEHIND} | OFFLINE, True),
    ],
)
def test_an_upgrade_touches_no_proxy_while_control_brings_its_own_change(
    more: dict[str, Any], on: bool
) -> None:
    """A proxy that restarted within a wave would take the change back. One version has no such key."""
    until = jinja2.Environment().compile_expression(task_of("upgrade.yml", "upgrade_rolled")["until"])
    status = {"rollout": None, "nodes": {"edge1": {"state": "active"}}, **more}
    assert until(upgrade_rolled={"status": status}) is on
    assert until(upgrade_rolled={"failed": True}) is False


@pytest.mark.parametrize(("given", "retries"), [({}, "720"), ({"upgrade_patience_s": "10"}, "2")])
def test_the_patience_of_an_upgrade_may_be_given_as_words_are(given: dict[str, str], retries: str) -> None:
    """`-e upgrade_patience_s=10` is text."""
    said = task_of("upgrade.yml", "upgrade_rolled")["retries"]
    assert jinja2.Environment().from_string(said).render(given) == retries


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.20.0.4", "10.20.0.4"),
        ("fd00::4", "[fd00::4]"),
    ],
)
def test_an_upgrade_asks_an_agent_where_it_listens(listens: str, asked: str) -> None:
    serves = task_of("upgrade.yml", "upgrade_serves")
    environment = jinja2.Environment()
    given = {"xds_agent_metrics_address": listens}
    seen = environment.from_string(serves["vars"]["upgrade_listens"]).render(given)
    found = environment.from_string(serves["vars"]["upgrade_asked"]).render(upgrade_listens=seen)
    assert found == asked
    assert serves["ansible.builtin.uri"]["url"].startswith("http://{{ upgrade_asked }}:")


@pytest.mark.parametrize(("agent", "ends"), [(BEFORE, 0), (BROKEN, 2)])
def test_a_host_is_revoked_by_a_control_of_the_version_before(agent: str, ends: int, tmp_path: Path) -> None:
    program = tmp_path / "xds-agent"
    program.write_text(agent)
    program.chmod(0o755)
    inventory = tmp_path / "hosts.yml"
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(yaml.safe_dump({"control": {"hosts": {"control1": here}}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "playbooks/revoke.yml",
         "-e", "host=edge1", "-e", "reason=INC-2207"],
        cwd=ROOT, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == ends, done.stdout + done.stderr
    if ends == 0:
        assert (tmp_path / "xds-agent.said").read_text() == "revoke edge1 --json --reason INC-2207\n"
