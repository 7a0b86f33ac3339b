"""The command itself: help, exit codes of wrong calls, errors without tracebacks, completion, python -m."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from xds_agent import __version__
from xds_agent.cli import app, status

ROOT = Path(__file__).resolve().parents[3]


def _call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xds_agent", *arguments]
    env = {**os.environ, "XDS_AGENT_SOCKET": "/nonexistent/control.sock", **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "command",
    [
        *("serve", "node", "bootstrap", "renew", "validate", "schema"),
        *("diff", "status", "history", "explain", "rollback"),
    ],
)
def test_every_command_teaches_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    if command != "history":
        assert f"xds-agent {command}" in result.stdout


def test_help_needs_neither_grpc_nor_ansible() -> None:
    code = (
        "import sys; import xds_agent.cli; "
        "heavy = {'grpc', 'ansible', 'sqlalchemy', 'fastapi', 'envoy', 'pydantic', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validate_works_where_grpc_is_not_installed(tmp_path: Path) -> None:
    document = tmp_path / "site.json"
    document.write_text('{"schema": 1, "edge": {}, "hosts": {}}')
    code = (
        "import sys; sys.modules['grpc'] = sys.modules['envoy'] = None; "
        f"sys.argv = ['xds-agent', 'validate', {str(document)!r}]; "
        "from xds_agent.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stdout


def test_the_version() -> None:
    done = _call("--version")
    assert (done.returncode, done.stdout) == (0, f"xds-agent {__version__}\n")


@pytest.mark.parametrize("arguments", [["diff"], ["diff", "--nope"], ["unknown"], ["rollback", "x"]])
def test_a_wrong_call_ends_with_1_because_2_means_differences(arguments: list[str]) -> None:
    done = _call(*arguments)
    assert done.returncode == 1
    assert "Usage: xds-agent" in done.stderr
    assert "Traceback" not in done.stderr


def test_changes_end_with_2_through_the_real_command(control: Any, tmp_path: Path) -> None:
    document = tmp_path / "site.json"
    document.write_text("{}")
    control.answers["/v1/revisions"] = (200, {"changed": True, "lines": [], "summary": "1 service"})
    assert _call("diff", str(document), XDS_AGENT_SOCKET=str(control.path)).returncode == 2


def test_without_control_there_is_a_remedy_and_exit_3() -> None:
    done = _call("status")
    assert done.returncode == 3
    assert done.stderr.startswith("xds-agent: there is no socket /nonexistent/control.sock\n")
    assert "systemctl status xds-agent-serve" in done.stderr


def test_diff_without_control_is_1_not_a_third_meaning(tmp_path: Path) -> None:
    document = tmp_path / "site.json"
    document.write_text("{}")
    assert _call("diff", str(document)).returncode == 1


def test_a_socket_nobody_listens_on(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    result = CliRunner().invoke(app, ["status", "--socket", str(path)])
    assert result.exit_code == 3
    assert "has stopped" in result.stderr


def test_a_socket_of_another_group(control: Any) -> None:
    arguments = ["status", "--socket", str(control.path)]
    control.answers["/v1/status"] = (200, {})
    assert CliRunner().invoke(app, arguments).exit_code == 0
    control.path.chmod(0)
    before = os.geteuid()
    if before == 0:
        # Root may open everything: ask as somebody else.
        os.seteuid(65534)
    try:
        result = CliRunner().invoke(app, arguments)
    finally:
        os.seteuid(before)
    assert result.exit_code == 3
    assert "usermod -aG" in result.stderr


@pytest.mark.parametrize("answer", [(500, b"<html>broken</html>"), (404, {"detail": "Not Found"}), (502, [])])
def test_an_answer_that_is_no_answer_is_one_sentence(run: Any, control: Any, answer: Any) -> None:
    control.answers["/v1/status"] = answer
    result = run("status")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_mistake_of_ours_is_no_traceback_but_can_be_one(
    run: Any, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(answer: dict[str, Any]) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(status, "_status", broken)
    control.answers["/v1/status"] = (200, {})
    result = run("status")
    assert result.exit_code == 1
    assert "something went wrong inside xds-agent: RuntimeError: boom" in result.stderr
    monkeypatch.setenv("XDS_AGENT_TRACEBACK", "1")
    assert isinstance(run("status").exception, RuntimeError)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_every_shell(shell: str) -> None:
    done = _call("--show-completion", shell)
    assert done.returncode == 0
    assert "XDS_AGENT" in done.stdout


def test_completion_knows_the_commands() -> None:
    asked = {"_XDS_AGENT_COMPLETE": "complete_bash", "COMP_WORDS": "xds-agent ro", "COMP_CWORD": "1"}
    assert _call(**asked).stdout.split() == ["rollback", "routes"]


@pytest.mark.parametrize(
    ("command", "file"), [("serve", "serve.yml"), ("node", "node.yml"), ("bootstrap", "n.yml")]
)
def test_a_missing_configuration_is_one_sentence(command: str, file: str, tmp_path: Path) -> None:
    done = _call(command, "--config", str(tmp_path / file))
    assert done.returncode == 1
    assert file in done.stderr
    assert "Traceback" not in done.stderr
