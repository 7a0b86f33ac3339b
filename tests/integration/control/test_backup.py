"""A control host is destroyed and restored elsewhere from one file: what did not change is not sent again."""

import asyncio
import copy
import shutil
import stat

import pytest

from tests.support.ports import free_port
from tests.support.serve_process import ServeProcess
from tests.support.site_pki import key_pem


async def cli(host, *arguments):
    return await asyncio.to_thread(host.cli, *arguments)


async def test_control_is_destroyed_and_restored_elsewhere(
    serve, node, document, pki, tmp_path, short_folder
):
    token = {"type": "token", "tokens": {"partner": "planted-7d1f03ab"}}
    document["edge"]["services"][0]["auth"] = token
    await asyncio.to_thread(serve.start)
    edge = node("edge1")
    told = await serve.until_active(document, "edge1")
    await edge.until_holding(told["nodes"]["edge1"]["revision"])
    (serve.folder / "state" / "balance.seed").write_text("3141592653")
    file = tmp_path / "control.backup"
    done = await cli(serve, "backup", file, "--config", serve.config)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (await cli(serve, "backup", file, "--config", serve.config)).returncode == 1
    received = len(edge.received)
    await asyncio.to_thread(serve.kill)
    shutil.rmtree(serve.folder)

    # Another folder, another issuing CA; the nodes find it where it was.
    ports = (serve.grpc_port, free_port())
    elsewhere = ServeProcess(tmp_path / "elsewhere", pki, short_folder / "again.sock", ports)
    other = ServeProcess(tmp_path / "other", pki, short_folder / "other.sock", (free_port(), free_port()))
    (elsewhere.folder / "issuing.key").write_bytes(b"not yet the right one")
    done = await cli(elsewhere, "restore", file, "--config", elsewhere.config)
    assert done.returncode == 0, done.stderr
    assert (elsewhere.folder / "issuing.key").read_bytes() == key_pem(pki.issuer.key)
    seed = elsewhere.folder / "state" / "balance.seed"
    assert (seed.read_text(), stat.S_IMODE(seed.stat().st_mode)) == ("3141592653", 0o600)
    try:
        await asyncio.to_thread(elsewhere.start)
        again = await elsewhere.until_active(document, "edge1")
        assert (again["changed"], again["revision"]) == (False, told["revision"])
        assert len(edge.received) == received
        assert [row["number"] for row in elsewhere.get("/v1/history").json()["revisions"]] == [1]
        audit = elsewhere.get("/v1/audit").json()
        assert (audit["broken"], audit["rows"][0]["action"]) == (None, "backup.restored")
        # And it goes on: the next change has the next number and reaches the node.
        edited = copy.deepcopy(document)
        edited["edge"]["services"][0]["endpoints"][0]["port"] = 9090
        assert (await elsewhere.apply(edited)).json()["number"] == 2
        assert len(edge.received) == received + 1
        running = await cli(elsewhere, "restore", file, "--config", elsewhere.config)
        assert (running.returncode, "runs on this host" in running.stderr) == (1, True)
    finally:
        await asyncio.to_thread(elsewhere.kill)
    filled = await cli(elsewhere, "restore", file, "--config", elsewhere.config)
    assert (filled.returncode, "already holds revisions" in filled.stderr) == (1, True)
    damaged = tmp_path / "damaged.backup"
    damaged.write_bytes(file.read_bytes()[:-200])
    done = await cli(other, "restore", damaged, "--config", other.config)
    assert (done.returncode, "no whole backup" in done.stderr) == (1, True)


async def test_without_keys_nothing_secret_is_in_the_file_and_it_says_what_to_keep(serve, document, tmp_path):
    await asyncio.to_thread(serve.start)
    await serve.apply(document)
    file = tmp_path / "control.backup"
    done = await cli(serve, "backup", file, "--without-keys", "--config", serve.config)
    assert done.returncode == 0, done.stderr
    assert "keep them apart" in done.stdout
    assert str(serve.folder / "state" / "secret.key") in done.stdout
    await asyncio.to_thread(serve.kill)
    (serve.folder / "state" / "secret.key").unlink()
    lacking = await cli(serve, "restore", file, "--config", serve.config)
    assert (lacking.returncode, "put back first" in lacking.stderr) == (1, True)


@pytest.mark.postgres
async def test_a_file_made_of_sqlite_is_restored_into_postgresql(
    serve, document, tmp_path, postgres_url, pki, short_folder
):
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    await asyncio.to_thread(serve.start)
    told = (await serve.apply(document)).json()
    file = tmp_path / "control.backup"
    assert (await cli(serve, "backup", file, "--config", serve.config)).returncode == 0
    ports = (free_port(), free_port())
    target = ServeProcess(tmp_path / "pg", pki, short_folder / "pg.sock", ports, database=postgres_url)
    done = await cli(target, "restore", file, "--config", target.config)
    assert done.returncode == 0, done.stderr
    try:
        await asyncio.to_thread(target.start)
        assert target.get("/v1/status").json()["revision"]["revision"] == told["revision"]
        assert target.get("/v1/audit").json()["broken"] is None
        edited = copy.deepcopy(document)
        edited["edge"]["services"][0]["endpoints"][0]["port"] = 9090
        assert (await target.apply(edited)).json()["number"] == 2
    finally:
        await asyncio.to_thread(target.kill)
