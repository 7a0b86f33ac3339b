"""What every role keeps: documented options are its defaults, few tasks, commands say when they change."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from xds_agent.rollout.vitals import WELL

ROOT = Path(__file__).parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
# Remote tasks of a run with nothing to change, per host and role, at most (each costs about 0.3 s).
TASKS_WHEN_NOTHING_CHANGES = 6
# Tasks of the controller, and those that only read other files of tasks.
FREE = {
    "ansible.builtin.fail",
    "ansible.builtin.debug",
    "ansible.builtin.set_fact",
    "marchproxy.edge.wheelhouse",
}
INCLUDES = {"ansible.builtin.include_tasks", "ansible.builtin.import_tasks", "ansible.builtin.import_role"}
COMMANDS = {
    "ansible.builtin.command",
    "ansible.builtin.shell",
    "ansible.builtin.script",
    "ansible.builtin.raw",
}
KEYWORDS = {
    "name", "when", "tags", "register", "changed_when", "failed_when", "delegate_to", "delegate_facts",
    "run_once", "vars", "no_log", "environment", "loop", "become", "block", "rescue",
    "always", "notify", "check_mode",
}  # fmt: skip


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tasks_of(path: Path) -> Iterator[dict[str, Any]]:
    """Tasks of a file, those inside blocks too."""
    pending = list(load(path) or [])
    while pending:
        task = pending.pop(0)
        for part in ("block", "rescue", "always"):
            pending += task.get(part, [])
        if "block" not in task:
            yield task


def module_of(task: dict[str, Any]) -> str:
    (module,) = task.keys() - KEYWORDS
    return module


def all_tasks(role: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        for task in tasks_of(path):
            yield path, task


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_the_documented_ones(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    options = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    assert defaults == documented


@pytest.mark.parametrize("role", ROLES)
def test_everything_is_described(role: str) -> None:
    for entry, spec in load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"].items():
        assert spec.get("short_description"), entry
        assert spec.get("description"), entry
        pending = list(spec["options"].items())
        while pending:
            name, option = pending.pop()
            assert option.get("description"), name
            assert option.get("type"), name
            pending += option.get("options", {}).items()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_says_what_it_is(role: str) -> None:
    words = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert words.startswith("# ")


@pytest.mark.parametrize("role", ROLES)
def test_commands_say_when_they_change(role: str) -> None:
    silent = [
        f"{path.name}: {task['name']}"
        for path, task in all_tasks(role)
        if module_of(task) in COMMANDS and "changed_when" not in task
    ]
    assert silent == []


@pytest.mark.parametrize("role", ROLES)
def test_no_loop(role: str) -> None:
    loops = [
        f"{path.name}: {task['name']}"
        for path, task in all_tasks(role)
        if any(key == "loop" or key.startswith("with_") for key in task)
    ]
    assert loops == []


@pytest.mark.parametrize("role", ROLES)
def test_few_remote_tasks_when_nothing_changes(role: str) -> None:
    """Included files are for changes; of main.yml a task counts unless it depends on what was found."""
    main = ROOT / "roles" / role / "tasks" / "main.yml"
    remote = [
        task["name"]
        for task in tasks_of(main)
        if module_of(task) not in FREE | INCLUDES and "when" not in task
    ]
    assert len(remote) <= TASKS_WHEN_NOTHING_CHANGES, remote


def test_every_play_asks_for_no_facts() -> None:
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        for play in load(path):
            if "ansible.builtin.import_playbook" not in play:
                assert play.get("gather_facts") is False, f"{path.name}: {play['name']}"


def _roles_of(playbook: str) -> set[tuple[str, str]]:
    """Roles of a playbook, each with the file of tasks it is entered by."""
    found = set()
    for play in load(ROOT / "playbooks" / playbook):
        found |= {(role, "main.yml") for role in play.get("roles", [])}
        for task in [*play.get("pre_tasks", []), *play.get("tasks", []), *play.get("post_tasks", [])]:
            entered = task.get("ansible.builtin.import_role")
            if entered is not None:
                found.add((entered["name"], entered.get("tasks_from", "main.yml")))
    return found


def test_an_upgrade_brings_everything_of_ours_that_a_site_has() -> None:
    """An agent of this version beside a datapath, or a shadow's Envoy, of the version before is none."""
    of_others = {
        f"marchproxy.edge.{name}"
        for name in ("host", "nic", "pki", "interconnect", "interconnect_failover", "backend")
    }
    ours = {(name, entry) for name, entry in _roles_of("site.yml") if name not in of_others}
    assert ours <= _roles_of("upgrade.yml")


@pytest.mark.parametrize("envoy", [*WELL, "DRAINING", "PRE_INITIALIZING"])
def test_an_upgrade_goes_on_after_every_host_that_is_well_and_no_other(envoy: str) -> None:
    """A host of the L4 tier alone has no Envoy, and must not stop the waves."""
    proxies = load(ROOT / "playbooks/upgrade.yml")[-1]
    (until,) = (task["until"] for task in proxies["tasks"] if task.get("register") == "upgrade_seen")
    goes_on = jinja2.Environment().compile_expression(until)
    seen = {"status": {"nodes": {"lb1": {"state": "active", "envoy": envoy}}}}
    assert bool(goes_on(upgrade_seen=seen, inventory_hostname="lb1")) == (envoy in WELL)


def _delegating(tasks: list[dict[str, Any]], unprivileged: bool = False) -> Iterator[tuple[str, bool]]:
    for task in tasks:
        here = unprivileged or task.get("vars", {}).get("ansible_become") is False
        if task.get("delegate_to") == "localhost":
            yield task["name"], here
        for part in ("block", "rescue", "always"):
            yield from _delegating(task.get(part, []), here)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_becomes_root_on_the_controller(role: str) -> None:
    """`ansible_become: true` for all hosts counts for the implicit localhost too, and beats the keyword."""
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        for name, unprivileged in _delegating(load(path) or []):
            assert unprivileged, f"{path}: {name}"


def test_envoy_cannot_reach_what_belongs_to_control() -> None:
    """Envoy is in the agent's group, for two sockets; on a host that is control too it must not meet more."""
    unit = (ROOT / "roles/envoy/templates/envoy.service.j2").read_text(encoding="utf-8")
    assert "TemporaryFileSystem=/run/marchproxy:ro" in unit
    # What the unit started with is noted there, from inside the unit's own view of the files.
    assert "BindPaths=/run/marchproxy/envoy /run/marchproxy/started" in unit
    assert "-/etc/marchproxy/pki" in unit
    serve_yml = next(
        file for file in load(ROOT / "roles/xds_agent/vars/main.yml")["xds_agent_files_control"]
        if file["path"] == "/etc/marchproxy/serve.yml"
    )  # fmt: skip
    assert (serve_yml["owner"], serve_yml["mode"]) == ("marchproxy", "0400")


@pytest.mark.parametrize("left", ["bpf/datapath/links", "node/vips", "node/shaping.json"])
def test_a_node_agent_without_a_datapath_forgets_the_one_before(tmp_path: Path, left: str) -> None:
    """Vips, filters and HTB classes outlive the pins of programs; where nothing is left, nothing runs."""
    template = (ROOT / "roles/xds_agent/templates/xds-agent-node.service.j2").read_text(encoding="utf-8")
    [line] = [one for one in template.splitlines() if "datapath forget" in one]
    said = re.fullmatch(r"ExecStartPre=\+-/bin/sh -c '([^']+)'", line)
    assert said and "$" not in said[1], "systemd would put its own variables there"
    script = said[1].replace("/run/marchproxy", str(tmp_path)).replace("/opt/", "echo /opt/")
    script = jinja2.Template(script).render(xds_agent_datapath_pins="/run/marchproxy/bpf/datapath")

    def run() -> str:
        return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout

    assert run() == ""
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).touch()
    assert run() == (
        "/opt/marchproxy/agent/bin/xds-agent datapath forget --pins /run/marchproxy/bpf/datapath "
        "--config /etc/marchproxy/node.yml\n"
    )


def test_the_unit_notes_every_file_whose_change_restarts_it() -> None:
    """One that is not noted would restart every agent by each run of the role."""
    template = (ROOT / "roles/xds_agent/templates/xds-agent-node.service.j2").read_text(encoding="utf-8")
    [noted] = [one for one in template.splitlines() if "sha256sum" in one]
    [node] = load(ROOT / "roles/xds_agent/vars/main.yml")["xds_agent_units_node"]
    for name in re.findall(r"xds_agent_[a-z_]+|/etc/[^' ]+node\.yml", node["restart_on"]):
        assert name in noted


def test_the_agent_starts_without_an_object_that_it_can_do_without(tmp_path: Path) -> None:
    """A newer role xds_agent on a host whose role xdp has not run yet: what is there is noted."""
    template = (ROOT / "roles/xds_agent/templates/xds-agent-node.service.j2").read_text(encoding="utf-8")
    [noted] = [one for one in template.splitlines() if "sha256sum" in one]
    stamp, absent, record = tmp_path / "installed", tmp_path / "maglev.bpf.o", tmp_path / "started"
    stamp.write_text("1", encoding="ascii")
    line = jinja2.Template(noted).render(
        xds_agent_stamp=stamp, xds_agent_datapath=True, xds_agent_datapath_objects=[absent],
        xds_agent_seed_at_edge=stamp,
    ).replace("/run/marchproxy/started/%n", str(record))  # fmt: skip
    script = line.removeprefix("ExecStartPre=+/bin/sh -c '").removesuffix("'")
    subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True)
    assert str(stamp) in record.read_text(encoding="ascii")
    assert str(absent) not in record.read_text(encoding="ascii")


def test_the_agent_s_unit_lets_a_datapath_ask_its_gateway() -> None:
    # A packet socket is refused by RestrictAddressFamilies, whatever capabilities there are.
    text = (ROOT / "roles" / "xds_agent" / "templates" / "hardening.j2").read_text()
    template = jinja2.Environment(autoescape=False).from_string(text)
    assert "AF_PACKET" in template.render(capabilities="CAP_NET_RAW")
    assert "AF_PACKET" not in template.render()
