"""A change reviewed from live.json is the one that is applied, and two operators do not meet unawares."""

import asyncio
import copy
import json
import os
import subprocess
import sys

import httpx

from tests.support.processes import until
from tests.support.serve_process import ROOT
from xds_agent.cli.packets import live_document
from xds_agent.node.datapath.replay import Replayed, Stage, with_origins


def edited(document, port=9090):
    new = copy.deepcopy(document)
    new["edge"]["services"][0]["endpoints"][0]["port"] = port
    return new


def newest(serve):
    return serve.get("/v1/history").json()["revisions"][0]


def run(*arguments, **env):
    command = [sys.executable, "-m", "xds_agent", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


async def test_what_was_reviewed_without_control_is_applied_and_nothing_else(serve, document, tmp_path):
    await asyncio.to_thread(serve.start)
    document["edge"]["services"][0]["auth"] = {"type": "token", "tokens": {"partner": "planted-7d1f03ab"}}
    assert (await serve.apply(document)).status_code == 200
    live = tmp_path / "live.json"
    done = await asyncio.to_thread(run, "live", "-o", live, XDS_AGENT_SOCKET=str(serve.socket))
    assert done.returncode == 0, done.stderr
    assert "planted" not in live.read_text()
    site = tmp_path / "site.json"
    site.write_text(json.dumps(edited(document)))
    # No control to ask: only the two files.
    done = await asyncio.to_thread(
        run, "diff", site, "--against", live, "--json", XDS_AGENT_SOCKET=str(tmp_path / "none")
    )
    assert done.returncode == 2, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert (await serve.apply(edited(document), dry_run=True)).json()["plan"] == plan

    other = await serve.apply(edited(document, 9191), plan=plan)
    assert (other.status_code, "the inventory has moved" in other.json()["error"]) == (409, True)
    assert (await serve.apply(edited(document), plan=plan)).json()["outcome"] == "live"
    again = (await serve.apply(edited(document), plan=plan)).json()
    assert again["outcome"] == "unchanged"
    assert (await serve.apply(edited(document, 7070))).json()["outcome"] == "live"
    late = await serve.apply(edited(document), plan=plan)
    assert (late.status_code, "what is live has moved (revision 3 now)" in late.json()["error"]) == (
        409,
        True,
    )


async def test_the_second_operator_is_told_who_and_what_or_waits(serve, node, document):
    await asyncio.to_thread(serve.start)
    going = asyncio.Event()
    edge = node("edge1")
    node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    edge.decide = lambda complete: going.set() or "silent"
    first = asyncio.create_task(serve.apply(edited(document), reason="CHG-1", timeout_s=10))
    await going.wait()
    second = await serve.apply(edited(document, 7070))
    assert second.status_code == 409
    assert "ada" in second.json()["error"]
    assert "(CHG-1)" in second.json()["error"]
    assert "-e wait=60" in second.json()["remedy"]
    edge.decide = lambda complete: None
    third = await serve.apply(edited(document, 7070), wait_s=60, timeout_s=2)
    # Its own turn came: what becomes of it with a node that fell silent is not the question here.
    assert third.status_code == 200, third.text
    assert (await first).json()["outcome"] == "refused"


async def test_an_operator_who_goes_away_in_mid_wave_leaves_no_half_change(serve, node, document):
    """What SIGINT on the play comes to: its connection ends. Control goes on or back, and says so."""
    await asyncio.to_thread(serve.start)
    going = asyncio.Event()
    edge = node("edge1")
    node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    edge.decide = lambda complete: going.set() or "silent"
    body = {"document": edited(document), "author": "ada", "timeout_s": 3}
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(serve.socket)), base_url="http://control", timeout=60
    ) as client:
        asking = asyncio.create_task(client.post("/v1/revisions", json=body))
        await going.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(60):
        while (row := newest(serve))["outcome"] == "pending":  # noqa: ASYNC110  decided elsewhere
            await asyncio.sleep(0.2)
    assert (row["number"], row["outcome"]) == (2, "refused")
    assert "edge1 did not acknowledge the change within 3 s" in row["words"]
    assert serve.get("/v1/status").json()["revision"]["number"] == 1
    # The row is written before the change is over.
    await until(lambda: serve.get("/v1/status").json()["applying"] == "")


async def test_what_live_prints_names_file_and_line_of_a_packets_stage(serve, document, tmp_path):
    """The round trip of `explain-packet --site`: from the inventory through control and the file."""
    document["edge"]["protection"] = {"deny": ["198.51.100.0/24", "203.0.113.40/29"]}
    document["origins"] = {"edge.protection": "edge/protection.yml:1:1"}
    document["origins"]["edge.protection.deny[1]"] = "edge/protection.yml:4:5"
    await asyncio.to_thread(serve.start)
    assert (await serve.apply(document)).status_code == 200
    live = tmp_path / "live.json"
    done = await asyncio.to_thread(run, "live", "-o", live, XDS_AGENT_SOCKET=str(serve.socket))
    assert done.returncode == 0, done.stderr
    site = live_document(live)
    denied = Stage("access lists", "203.0.113.40/29 is denied", "protection.deny")
    found = Replayed("dropped", "drop_denied", (denied,))
    [stage] = with_origins(found, site["edge"], site["origins"], site["hosts"]).stages
    assert (stage.path, stage.origin) == ("protection.deny[1]", "edge/protection.yml:4:5")
