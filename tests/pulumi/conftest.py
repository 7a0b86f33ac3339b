"""The real Pulumi engine, on small programs, against the simulated clouds."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cloud_sites import REGIONS, one_cloud

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
PYTHON = ROOT / "pulumi" / ".venv" / "bin" / "python"
PREPARE_S, COMMAND_S = 1500, 480
FILE = "tested.yaml"
PASSPHRASE = "only these tests"


@dataclass
class Stack:
    """One stack of one program, with clouds of its own."""

    cli: str
    place: Path
    name: str = "tested"
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str, faults: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        """Begin a command of the CLI, in a process group of its own."""
        return subprocess.Popen(
            [self.cli, *words, "--non-interactive"],
            cwd=self.place / "project", env=self.surroundings(faults) | environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def run(
        self, *words: str, told: str = "", faults: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI to its end, whatever its exit code; ``told`` goes to its stdin."""
        running = self.start(*words, faults=faults, **environment)
        try:
            said, _ = running.communicate(told, timeout=COMMAND_S)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.communicate()
        return subprocess.CompletedProcess(words, running.returncode, said)

    def must(self, *words: str, told: str = "", faults: tuple[str, ...] = (), **environment: str) -> str:
        done = self.run(*words, told=told, faults=faults, **environment)
        assert done.returncode == 0, f"pulumi {' '.join(words)} gave {done.returncode}\n{done.stdout}"
        return done.stdout

    def up(self, *words: str) -> str:
        return self.must("up", "--yes", "--skip-preview", *words)

    def configure(self, **values: str) -> None:
        for key, value in values.items():
            self.must("config", "set", key, value)

    def inventory(self) -> Any:
        return json.loads(self.must("stack", "output", "--json"))["edge_inventory"]

    def state(self) -> list[dict[str, Any]]:
        """Resources of the engine's state."""
        deployment = json.loads(self.must("stack", "export"))["deployment"]
        found: list[dict[str, Any]] = deployment.get("resources", [])
        return found

    def written(self) -> tuple[list[str], list[str]]:
        """What the engine has written down: types of what it is making now, and of what it has made."""
        file = self.place / "state" / ".pulumi" / "stacks" / "tested" / f"{self.name}.json"
        try:
            latest = json.loads(file.read_text())["checkpoint"]["latest"]
        except ValueError:
            # The engine is writing it.
            return [], []
        pending = [
            each["resource"]["type"].rpartition(":")[2] for each in latest.get("pending_operations") or []
        ]
        return pending, [each["type"].rpartition(":")[2] for each in latest.get("resources") or []]

    def of(self, word: str) -> list[dict[str, Any]]:
        return [resource for resource in self.state() if resource["type"].endswith(f":{word}")]

    def cloud(self, *words: str) -> str:
        """Look into the clouds, or change them behind Pulumi's back."""
        done = subprocess.run(
            [PYTHON, "-m", "simcloud", "--world", self.place / "world", *words],
            cwd=ROOT / "pulumi", capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def held(self) -> list[dict[str, Any]]:
        """Everything that the clouds hold."""
        return [json.loads(line) for line in self.cloud("list", "--json").splitlines()]

    def surroundings(self, faults: tuple[str, ...]) -> Mapping[str, str]:
        return {
            "HOME": os.environ.get("HOME", "/root"),
            "PATH": f"{ROOT / 'tools' / 'pulumi' / 'bin'}:{os.environ['PATH']}",
            "PULUMI_HOME": str(self.place / "home"),
            "PULUMI_BACKEND_URL": f"file://{self.place / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_STACK": self.name,
            "SIMCLOUD_WORLD": str(self.place / "world"),
            "SIMCLOUD_FAULTS": " ".join(faults),
            "SIMCLOUD_RUN": os.urandom(4).hex(),
            **self.environment,
        }


@dataclass
class Site(Stack):
    """A stack of the cloud programs, with its site file."""

    environment: dict[str, str] = field(default_factory=lambda: {"EDGE_SKIP_CREDENTIALS": "1"})
    cloud_name: str = ""

    @contextmanager
    def rewritten(self) -> Iterator[dict[str, Any]]:
        """The whole site file, to be changed in the block."""
        file = self.place / FILE
        text = yaml.safe_load(file.read_text())
        yield text
        file.write_text(yaml.safe_dump(text, sort_keys=False))

    @contextmanager
    def edited(self) -> Iterator[dict[str, Any]]:
        """The first region of the site file's first cloud, to be changed in the block."""
        with self.rewritten() as text:
            [said] = text["clouds"].values()
            yield next(iter(said["regions"].values()))

    def edge(self, number: int) -> str:
        """Name of an edge host."""
        return f"edge-{self.cloud_name}-{REGIONS[self.cloud_name]}-{number}"

    def ids(self) -> dict[str, str]:
        """Host -> the id of its machine, which is another one for each machine."""
        return {host["name"]: host["id"] for host in self.inventory()["hosts"]}

    def addresses(self) -> dict[str, str]:
        """Host -> its public address."""
        return {host["name"]: host["address"] for host in self.inventory()["hosts"]}

    def count(self, word: str) -> int:
        """How many of a type the clouds hold."""
        return sum(record["token"].endswith(f":{word}") for record in self.held())


@pytest.fixture(scope="session")
def cli() -> str:
    """The CLI as script/pulumi has it; building it takes four minutes on a machine that never did."""
    done = subprocess.run(
        [ROOT / "script" / "pulumi", "--prepare"],
        capture_output=True, text=True, timeout=PREPARE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"script/pulumi --prepare failed\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def aws(cli: str, tmp_path: Path) -> Iterator[Stack]:
    """A stack of the small AWS program, not yet made."""
    yield made_in(cli, tmp_path, PROGRAMS / "aws")
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def made(cli: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Site]:
    """Cloud -> a site in it of control and one edge host, made once by the cloud's own program."""

    @functools.cache
    def of(cloud: str) -> Site:
        return site_in(cli, tmp_path_factory.mktemp(cloud), one_cloud(cloud, name="tested"), cloud=cloud)

    return of


@pytest.fixture
def site(made: Callable[[str], Site], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A copy of the site in the cloud that the test names: state, cloud and all, for the test to change."""
    template, place = made(request.param), tmp_path / "site"
    shutil.copytree(template.place, place, symlinks=True)
    settings = place / "project" / f"Pulumi.{template.name}.yaml"
    settings.write_text(settings.read_text().replace(str(template.place), str(place)))
    yield replace(template, place=place)
    shutil.rmtree(place, ignore_errors=True)


def site_in(
    cli: str,
    place: Path,
    text: str,
    *,
    cloud: str = "",
    made: tuple[str, ...] = ("up", "--yes", "--skip-preview"),
    **environment: str,
) -> Site:
    """A new stack of the cloud programs for a site file, with an authority of its own, made."""
    site = Site(cli, place, made_in(cli, place, ROOT / "pulumi").name, cloud_name=cloud)
    site.environment |= environment
    file = place / f"{yaml.safe_load(text)['name']}.yaml"
    file.write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "ca"], check=True)
    site.must("config", "set", "edge:site", str(file))
    site.must("config", "set", "--secret", "edge:hostCaKey", told=(place / "ca").read_text())
    site.must(*made)
    return site


def made_in(cli: str, folder: Path, program: Path) -> Stack:
    """A new stack of ``program``, everything of it in ``folder``."""
    made = subprocess.run(
        [PYTHON, "-m", "simcloud.project", "--program", program, "--place", folder],
        cwd=ROOT / "pulumi", capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    stack = Stack(cli, folder)
    stack.must("stack", "init", stack.name)
    return stack
