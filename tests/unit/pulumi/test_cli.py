"""script/site-plan: what a person and a machine are told, and how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from edge_iac import cli
from edge_iac.cli import app
from typer.testing import CliRunner, Result

from tests.support.cloud_sites import site_of


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file in a repository of its own, not yet committed."""
    file = tmp_path / "big.yaml"
    file.write_text(site_of(4))
    git(tmp_path, "init", "--quiet")
    return file


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def committed(site: Path) -> None:
    git(site.parent, "add", "big.yaml")
    git(site.parent, "commit", "--quiet", "--message", "a site")


def ran(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def told(*words: str | Path) -> dict[str, object]:
    done = ran("show", *words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_no_change_is_said_only_where_there_was_something_to_compare_with(site: Path) -> None:
    assert (told(site)["compared_with"], told(site)["changes"]) == (None, None)
    committed(site)
    assert (told(site)["compared_with"], told(site)["changes"]) == ("HEAD", [])
    site.write_text(site_of(5))
    changes = told(site)["changes"]
    assert isinstance(changes, list) and any("edge-aws-us-east-1-2" in change for change in changes)
    assert all(change in ran("show", site).stdout for change in changes)


def test_a_revision_that_was_mistyped_is_an_error(site: Path) -> None:
    committed(site)
    done = ran("show", site, "--against", "mian")
    assert done.exit_code == 1
    assert "git knows no revision 'mian'" in done.stderr


def test_an_invalid_site_ends_with_1_and_all_its_mistakes(site: Path) -> None:
    site.write_text(site_of(4).replace("zones: 1", "zones: 9"))
    done = ran("show", site)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 3
    assert not done.stdout


def test_what_balancers_do_not_carry_is_said(site: Path) -> None:
    document = yaml.safe_load(site_of(4))
    document["reach"] = [
        {
            "name": "rtp",
            "sources": ["internet"],
            "targets": ["ingress"],
            "protocol": "udp",
            "ports": ["10000-20000"],
        }
    ]
    site.write_text(yaml.safe_dump(document))
    [note] = told(site)["notes"]  # type: ignore[misc]
    assert note.startswith("reach rtp: 10000-20000 is wider than load balancers take (16 ports)")
    assert note in ran("show", site).stdout


def test_ready_looks_for_the_cli_where_script_pulumi_does_and_for_its_environment(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PATH": "", "HOME": str(tmp_path), "EDGE_SKIP_CREDENTIALS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli, "ENVIRONMENT", tmp_path / ".venv")
    done = ran("ready", site)
    assert done.exit_code == 1
    pulumi, environment = done.stderr.splitlines()
    assert "www.pulumi.com/docs/install" in pulumi and "script/pulumi --prepare" in environment
    for program in (tmp_path / ".pulumi/bin/pulumi", tmp_path / ".venv/bin/python"):
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    assert ran("ready", site).stdout == "ready: script/pulumi up -s big --policy-pack policy\n"


def test_user_data_that_an_import_left_in_plain_text_becomes_secret() -> None:
    """Where each cloud has it, inputs and outputs; all else, and what is secret already, stays."""
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:x"}
    lines = "#cloud-config\n"
    shapes = {
        "aws:ec2/instance:Instance": {"userData": lines, "ami": "ami-1"},
        "gcp:compute/instance:Instance": {"metadata": {"startup-script": lines, "ssh-keys": "a:b"}},
        "azure-native:compute:VirtualMachine": {"osProfile": {"customData": lines, "adminUsername": "a"}},
        "aws:ec2/vpc:Vpc": {"userData": lines},
    }
    resources = [
        {"urn": f"urn:pulumi:p::edge::{kind}::host-{number}", "type": kind, "inputs": said, "outputs": said}
        for number, (kind, said) in enumerate(shapes.items())
    ]
    whole = {
        "urn": "urn:pulumi:p::edge::x::kept",
        "type": "aws:ec2/instance:Instance",
        "inputs": {"userData": secret},
    }
    told = json.dumps({"version": 3, "deployment": {"resources": [*resources, whole]}})
    done = CliRunner().invoke(app, ["seal"], input=told)
    assert done.exit_code == 0, done.output
    assert done.stderr == "user data made secret of: host-0, host-1, host-2\n"
    marked = {key: value for key, value in secret.items() if key != "ciphertext"} | {
        "plaintext": json.dumps(lines)
    }
    [*others, vpc, kept] = json.loads(done.stdout)["deployment"]["resources"]
    assert (vpc, kept) == (resources[-1], whole)
    for before, after in zip(resources, others, strict=False):
        wanted = json.loads(json.dumps(before).replace(json.dumps(lines), json.dumps(marked)))
        assert after == wanted
    again = CliRunner().invoke(app, ["seal"], input=done.stdout)
    assert (again.stdout, again.stderr) == (
        done.stdout,
        "user data made secret of: no host, all of them were\n",
    )
    for wrong in ("", "[]", "{}", '{"deployment": {"resources": [1]}}'):
        refused = CliRunner().invoke(app, ["seal"], input=wrong)
        assert (refused.exit_code, refused.stdout) == (1, ""), wrong
        assert "this is not what `pulumi stack export` writes" in refused.stderr
