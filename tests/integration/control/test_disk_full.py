"""A control host whose disk is full: refused in one sentence, still serving, and well again by itself."""

import asyncio
import copy
import os
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

pytestmark = pytest.mark.root
SIZE_KB = 4096


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine mounts no tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Every last block."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def test_refused_and_still_serving(serve, node, document, small_disk):
    settings = yaml.safe_load(serve.config.read_text()) | {"state_dir": str(small_disk / "state")}
    serve.config.write_text(yaml.safe_dump(settings))
    await asyncio.to_thread(serve.start)
    edge, _ = node("edge1"), node("edge2")
    first = await serve.until_active(document, "edge1", "edge2")
    held = edge.holds
    ballast = fill(small_disk)
    big = copy.deepcopy(document)
    big["edge"]["services"][0]["description"] = "y" * 300_000
    big["edge"]["services"][0]["endpoints"][0]["port"] = 9090
    refused = await serve.apply(big)
    assert refused.status_code == 507, refused.text
    assert refused.json()["error"].startswith("the disk of the control database is full: nothing was stored")
    assert edge.holds == held
    assert serve.get("/v1/status").json()["revision"]["revision"] == first["revision"]
    assert (await serve.apply(big, dry_run=True)).json()["changed"]
    # A proxy that comes now is served all the same.
    await edge.close()
    late = node("edge1")
    await late.until_holding(held)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serve.http_port}") as client:
        assert (await client.get("/healthz")).status_code == 200
    # A restart on the full disk serves the last good revision, too: killed, or ended with no journal left.
    for end in (serve.kill, serve.end):
        await asyncio.to_thread(end)
        fill(small_disk)
        await asyncio.to_thread(serve.start)
        await late.until_holding(held)
        assert serve.get("/v1/status").json()["revision"]["revision"] == first["revision"]
    ballast.unlink()
    assert (await serve.apply(big)).json()["outcome"] == "live"
