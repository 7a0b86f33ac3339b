"""The database is away for a while in the middle of a change: the old revision or the new, nothing lost."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.integration.control.conftest import DEBIAN, _as_postgres
from tests.support.fault_site import FaultSite
from tests.support.processes import envoy_binary
from tests.support.segment import may_make_namespaces

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.postgres,
    pytest.mark.root,
    pytest.mark.skipif(envoy_binary() is None, reason="no Envoy: script/test installs one"),
    pytest.mark.skipif(bool(may_make_namespaces()), reason=may_make_namespaces()),
]

AWAY_S = 3.0


class Server:
    """The PostgreSQL behind a URL of `postgres_url`."""

    def __init__(self, url: str) -> None:
        self._folder = Path(url.partition("host=")[2])

    def stop(self) -> None:
        self._run("-m", "immediate", "-w", "stop")

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("-o", f"{options} -c max_connections=40", "-l", f"{self._folder}/log", "-w", "start")

    def _run(self, *words: str) -> None:
        for parent in self._folder.parents[:3]:
            # Each folder that pytest makes for a test closes those above to the server's user again.
            parent.chmod(parent.stat().st_mode | 0o011)
        command = [str(DEBIAN[0] / "pg_ctl"), "-D", f"{self._folder}/data", *words]
        done = subprocess.run(_as_postgres(*command), capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def url(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE faults")
    yield postgres_url.replace("/postgres?", "/faults?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS faults WITH (FORCE)")


@pytest.mark.parametrize("back_in_time", [True, False], ids=["back before the end", "away at the end"])
async def test_the_database_is_away_in_the_middle_of_a_change(url, pki, tmp_path, back_in_time):
    server = Server(url)
    async with FaultSite(tmp_path / "site", pki, database=url) as site, site.load():
        applying = site.change()
        await site.phase(1, "soaking")
        await asyncio.to_thread(server.stop)
        if back_in_time:
            await asyncio.to_thread(server.start)
        answer = (await asyncio.gather(applying, return_exceptions=True))[0]
        if not back_in_time:
            # All the same, nothing is lost and every proxy serves.
            await asyncio.sleep(AWAY_S)
            await asyncio.to_thread(server.start)
        live = await site.settled()
        if isinstance(answer, httpx.Response) and answer.json().get("outcome") == "live":
            assert live != site.before
        elif not back_in_time:
            # What could not be written down as live is not left so.
            assert live == site.before
        later = (await site.change()).json()
        assert later["outcome"] == "live", later
        assert await site.settled() == later["revision"]
