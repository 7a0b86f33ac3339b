"""PostgreSQL is away for a while, under load on a whole site: everything serves, a change is told so in
words, or ends whole, and goes through once the database is back."""

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


async def until_live(site: FaultSite, patience_s: float = 60.0) -> str:
    """The same change again until control takes it; the words of every refusal before."""
    words: list[str] = []
    async with asyncio.timeout(patience_s):
        while True:
            answer = await site.change()
            if answer.status_code == 200:
                assert answer.json()["outcome"] == "live", answer.text
                return "\n".join(words)
            words.append(answer.text)
            await asyncio.sleep(0.2)


async def test_the_database_is_away_for_a_while(url, pki, tmp_path):
    server = Server(url)
    async with FaultSite(tmp_path / "site", pki, database=url) as site:
        await asyncio.to_thread(server.stop)
        try:
            async with site.load():
                refused = await site.change()
                assert refused.status_code in (500, 503), refused.text
                assert "database" in refused.json()["error"], refused.text
                seen = await site.status()
                assert seen["revision"]["revision"] == site.before
                assert "database" in seen["trouble"], seen
                assert {one["state"] for one in seen["nodes"].values()} == {"active"}
        finally:
            await asyncio.to_thread(server.start)
        await until_live(site)
        site.before = await site.settled()

        async with site.load():
            # PostgreSQL takes its time to stop, which must be within the soak.
            site.rollout = {"waves": [1, "100%"], "soak": "10s"}
            applying = await site.soaking()
            await asyncio.to_thread(server.stop)
            try:
                answer = (await asyncio.gather(applying, return_exceptions=True))[0]
            finally:
                await asyncio.to_thread(server.start)
            assert isinstance(answer, httpx.Response), answer
            refused = answer.json().get("error") or answer.json()["problems"][0]["text"]
            assert "leads no more" in refused or "database" in refused, answer.text
            await until_live(site)
            assert await site.settled() != site.before
            outcomes = [row["outcome"] for row in site.serve.get("/v1/history").json()["revisions"]]
            assert "pending" not in outcomes, outcomes
