"""A real PostgreSQL, a real `xds-agent serve` in a process of its own, and inventories to drive it with."""

import copy
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.grpc_node import GrpcNode
from tests.support.ports import free_port
from tests.support.serve_process import ServeProcess
from tests.support.site_pki import SitePki
from tests.support.small_site import DOCUMENT, SmallSite

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _as_postgres(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() == 0:
        return ["runuser", "-u", "postgres", "--", *command]
    return list(command)


@pytest.fixture(scope="session")
def postgres_url():
    """A cluster of Debian's PostgreSQL on a Unix socket in a folder of its own, gone after the tests."""
    if not DEBIAN:
        pytest.skip("Debian's postgresql package is not installed (script/test installs it)")
    bin_dir = DEBIAN[0]
    # Not below pytest's own folder: other runs clear it of what is some runs old, whoever still uses it.
    folder = Path(tempfile.mkdtemp(prefix="mp-postgres-"))
    data = folder / "data"
    # The server runs as another user.
    folder.chmod(0o777)
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=40"
    try:
        for command in (
            [bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            [bin_dir / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"],
        ):
            done = subprocess.run(_as_postgres(*map(str, command)), capture_output=True, text=True, cwd="/")
            assert done.returncode == 0, done.stdout + done.stderr
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        stop = [bin_dir / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"]
        subprocess.run(_as_postgres(*map(str, stop)), capture_output=True, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def short_folder():
    """A folder whose path is short: a Unix socket's may have 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="mpc-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_site(tmp_path, short_folder):
    return SmallSite(tmp_path / "site", short_folder / "control.sock")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return SitePki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def serve(tmp_path, short_folder, pki):
    """A control host that is not started yet; killed for good after the test."""
    process = ServeProcess(
        tmp_path / "control", pki, short_folder / "control.sock", (free_port(), free_port())
    )
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


@pytest.fixture
async def node(serve, pki):
    """node("edge1") connects a node agent without an Envoy to that control host."""
    started = []

    def connect(name, decide=lambda complete: None):
        started.append(GrpcNode.start(pki, name, serve.grpc_port, decide))
        return started[-1]

    yield connect
    for one in started:
        await one.close()


@pytest.fixture
def document():
    """The small site as the controller hands it over."""
    return copy.deepcopy(DOCUMENT)
