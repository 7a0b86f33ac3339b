"""`xds-agent revoke`: a host that has shown its certificate is cut off within seconds, and audited."""

import asyncio
import json

import pytest

from tests.support.site_pki import SitePki
from xds_agent.pki.revocation import revoked_serials


@pytest.fixture
def pki(tmp_path):
    """One of its own: the others' list is not to grow."""
    return SitePki(tmp_path / "pki")


async def run(host, *arguments):
    return await asyncio.to_thread(host.cli, *arguments)


async def test_a_host_is_revoked_by_its_name_and_cut_off(serve, node, document, pki):
    await asyncio.to_thread(serve.start)
    edge = node("edge1")
    other = node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    serial = f"{edge.files.serial:X}"
    # What was shown is stored within a second or so; a dry run says when.
    async with asyncio.timeout(60):
        while (dry := await run(serve, "revoke", "edge1", "--dry-run")).returncode != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.3)
    assert f"certificate {serial} would be revoked" in dry.stdout
    done = await asyncio.to_thread(serve.cli, "revoke", "edge1", "--reason", "INC-1", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["revoked"], said["changed"]) == ([serial], True)
    async with asyncio.timeout(60):
        while "revoked" not in edge.last_error:  # noqa: ASYNC110  told by another process
            await asyncio.sleep(0.1)
    states = {name: one["state"] for name, one in serve.get("/v1/status").json()["nodes"].items()}
    assert (states["edge1"], states["edge2"], bool(other.holds)) == ("offline", "active", True)
    rows = serve.get("/v1/audit").json()["rows"]
    [row] = [one for one in rows if one["action"] == "host.revoked"]
    assert (row["subject"], json.loads(row["detail"])["serials"]) == ("edge1", [serial])
    assert json.loads(row["detail"])["reason"] == "INC-1"
    again = await asyncio.to_thread(serve.cli, "revoke", "edge1")
    assert "was revoked before" in again.stdout
    unknown = await asyncio.to_thread(serve.cli, "revoke", "edge9")
    assert (unknown.returncode, "--serial" in unknown.stderr) == (1, True)
    named = await asyncio.to_thread(serve.cli, "revoke", "edge9", "--serial", "4f:21:0a", "--json")
    assert json.loads(named.stdout)["revoked"] == ["4F210A"]
    assert 0x4F210A in revoked_serials((pki.folder / "crl.pem").read_bytes())
    assert 'marchproxy_node_up{node="edge1"} 0.0' in serve.metrics()
