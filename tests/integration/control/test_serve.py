"""`xds-agent serve` as a process: its sockets, its answers, its end and its return."""

import asyncio
import copy
import os
import stat

import httpx
import pytest

from tests.support.fake_fleet import Refuse
from tests.support.processes import until
from xds_agent.snapshot.resource import CLUSTER


def edited(document):
    new = copy.deepcopy(document)
    new["edge"]["services"][0]["endpoints"][0]["port"] = 9090
    return new


async def test_a_change_from_document_to_acknowledgement(serve, node, document):
    await asyncio.to_thread(serve.start)
    edges = [node("edge1"), node("edge2")]
    answer = await serve.apply(document, reason="CHG-1", commit="abc with edits")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["outcome"], told["number"], told["changed"]) == ("live", 1, True)
    assert told["summary"]
    # Either may have come too late for the change, and had it when it came.
    told = await serve.until_active(document, "edge1", "edge2")
    assert {name: one["state"] for name, one in told["nodes"].items()} == {
        "edge1": "active",
        "edge2": "active",
    }
    assert {edge.holds for edge in edges} == {one["revision"] for one in told["nodes"].values()}

    again = (await serve.apply(document)).json()
    assert (again["changed"], again["outcome"], again["number"]) == (False, "unchanged", 1)
    dry = (await serve.apply(edited(document), dry_run=True)).json()
    assert (dry["changed"], dry["number"]) == (True, None)
    assert dry["lines"]

    status = serve.get("/v1/status").json()
    assert status["revision"]["number"] == 1
    assert status["revision"]["reason"] == "CHG-1"
    assert status["revision"]["author"].startswith("ada (as ")
    assert status["certificates"].keys() == {"shop", "bank"}
    [row] = serve.get("/v1/history").json()["revisions"]
    assert (row["outcome"], row["commit"]) == ("live", "abc with edits")
    assert serve.get("/v1/revisions/1").json()["document"]["edge"]["services"][0]["name"] == "shop"
    assert serve.get("/v1/revisions/9").json() == {
        "error": "there is no revision 9; `xds-agent history` lists them"
    }
    assert serve.get("/v1/audit").json()["broken"] is None
    [met] = serve.get("/v1/explain", url="https://shop.example.com/x").json()["explanations"]
    assert met["proxies"] == ["edge1", "edge2"]
    unknown = serve.get("/v1/explain", url="https://shop.example.com/x", host="edge99")
    assert (unknown.status_code, "edge99" in unknown.json()["error"]) == (400, True)


async def test_a_refusal_is_told_with_the_line_and_nothing_stays(serve, node, document):
    await asyncio.to_thread(serve.start)
    node("edge1")
    picky = node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    held = picky.holds
    picky.decide = lambda complete: (
        None if complete.snapshot.revision == held else Refuse("ring too big", CLUSTER, ("shop",))
    )
    told = (await serve.apply(edited(document))).json()
    assert (told["outcome"], told["changed"], told["reverted_to"]) == ("refused", False, 1)
    [problem] = told["problems"]
    assert problem["text"] == "services[shop]: edge2 refused cluster shop: ring too big; edge/shop.yml:3"
    assert [r["outcome"] for r in serve.get("/v1/history").json()["revisions"]] == ["refused", "live"]
    again = await serve.until_active(document, "edge1", "edge2")
    assert {one["state"] for one in again["nodes"].values()} == {"active"}


async def test_a_host_that_can_at_last_is_offered_again_what_it_refused(serve, node, document):
    """Its datapath came up late; nobody has to edit anything for that."""
    await asyncio.to_thread(serve.start)
    await serve.apply(document)
    edge = node("edge1", lambda complete: Refuse("this host's datapath does not run"))
    await until(lambda: serve.get("/v1/status").json()["nodes"]["edge1"]["state"] == "refused")
    edge.decide = lambda complete: None
    await edge.ask_again()
    await until(lambda: serve.get("/v1/status").json()["nodes"]["edge1"]["state"] == "active")


async def test_killed_in_mid_apply_it_returns_with_the_old_revision_whole(serve, node, document):
    await asyncio.to_thread(serve.start)
    edge, _ = node("edge1"), node("edge2")
    first = await serve.until_active(document, "edge1", "edge2")
    held = edge.holds
    got_new = asyncio.Event()

    def silent(complete):
        got_new.set()
        return "silent"

    edge.decide = silent
    applying = asyncio.create_task(serve.apply(edited(document)))
    await got_new.wait()
    await asyncio.to_thread(serve.kill)
    with pytest.raises(httpx.TransportError):
        await applying
    edge.decide = lambda complete: None
    await asyncio.to_thread(serve.start)
    status = serve.get("/v1/status").json()
    assert status["revision"]["revision"] == first["revision"]
    outcomes = [r["outcome"] for r in serve.get("/v1/history").json()["revisions"]]
    assert outcomes == ["interrupted", "live"]
    assert serve.get("/v1/audit").json()["broken"] is None
    # Nothing half: the node is brought back to what is live, and the next apply works.
    again = await serve.until_active(document, "edge1", "edge2")
    assert (again["changed"], edge.holds) == (False, held)
    assert (await serve.apply(edited(document))).json()["outcome"] == "live"


# None: when a proxy takes it.
@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03, 0.08, None])
async def test_killed_at_any_moment_a_restart_serves_old_or_new(serve, node, document, delay_s):
    await asyncio.to_thread(serve.start)
    edge, _ = node("edge1"), node("edge2")
    old = (await serve.until_active(document, "edge1", "edge2"))["revision"]
    new = (await serve.apply(edited(document), dry_run=True)).json()["revision"]
    taken = asyncio.Event()
    edge.decide = lambda complete: taken.set()
    applying = asyncio.create_task(serve.apply(edited(document)))
    await (taken.wait() if delay_s is None else asyncio.sleep(delay_s))
    await asyncio.to_thread(serve.kill)
    await asyncio.gather(applying, return_exceptions=True)
    await asyncio.to_thread(serve.start)
    status = serve.get("/v1/status").json()
    assert status["revision"]["revision"] in {old, new}
    assert status["trouble"] == ""
    wanted = status["nodes"]["edge1"]["wanted"]
    await edge.until_holding(wanted)


async def test_sigterm_lets_a_change_end(serve, node, document):
    await asyncio.to_thread(serve.start)
    going = asyncio.Event()
    node("edge2")
    edge = node("edge1", lambda complete: going.set() or "silent")
    applying = asyncio.create_task(serve.apply(document, timeout_s=10))
    await going.wait()
    code = asyncio.create_task(asyncio.to_thread(serve.end))
    answer = await applying
    assert answer.json()["nodes"]["edge1"]["state"] == "pending"
    assert await code == 0
    assert not serve.socket.exists()
    assert edge.received


async def test_what_is_wrong_is_answered_in_words(serve, document):
    await asyncio.to_thread(serve.start)
    bad = copy.deepcopy(document)
    bad["edge"]["services"][0]["endpoints"][0]["port"] = 99999
    bad["edge"]["routes"][0]["service"] = "nowhere"
    answer = await serve.apply(bad)
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) == 2
    assert answer.json()["problems"][0].keys() == {"path", "message", "fix", "origin", "text"}
    nothing = serve.post("/v1/revisions", {"document": "planted-secret"})
    assert nothing.status_code == 422
    assert "planted-secret" not in nothing.text
    assert serve.post("/v1/revisions", {}).json()["problems"][0]["path"] == "body.document"
    assert serve.post("/v1/rollback", {"number": 7}).status_code == 409
    assert serve.get("/v1/explain", url="https://x/").status_code == 409
    assert serve.get("/v1/nothing").json().keys() == {"error"}


async def test_removal_is_409_with_the_remedy(serve, node, document):
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    less = copy.deepcopy(document)
    del less["edge"]["services"][1], less["edge"]["domains"][1]
    answer = await serve.apply(less)
    assert answer.status_code == 409
    assert "service vault would be removed" in answer.json()["error"]
    assert answer.json()["remedy"].endswith("-e allow_removal=vault")
    assert (await serve.apply(less, allow_removal=["vault"])).status_code == 200


async def test_tcp_shows_health_and_metrics_and_nothing_else(serve, node, document):
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serve.http_port}") as client:
        assert (await client.get("/healthz")).json() == {"status": "ok", "revision": 1}
        metrics = (await client.get("/metrics")).text
        for path in ("/v1/status", "/v1/revisions", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 404
    assert 'marchproxy_nodes{state="active"} 2.0' in metrics
    assert "marchproxy_connected_nodes 2.0" in metrics
    assert "marchproxy_acks_total 2.0" in metrics
    assert "marchproxy_push_to_ack_seconds_count 2.0" in metrics
    assert "marchproxy_revision 1.0" in metrics
    assert 'marchproxy_applies_total{outcome="live"} 1.0' in metrics
    assert 'marchproxy_certificate_expiry_seconds{certificate="shop"}' in metrics


def test_the_socket_is_for_owner_and_group(serve):
    serve.start()
    assert stat.S_IMODE(serve.socket.stat().st_mode) == 0o660


@pytest.mark.root
def test_the_socket_belongs_to_its_unix_group(serve):
    import grp

    if os.geteuid() != 0:
        pytest.skip("only root may give a socket to another group")
    text = serve.config.read_text().replace("tenants: all", "group: daemon\n  tenants: all")
    serve.config.write_text(text)
    serve.start()
    assert grp.getgrgid(serve.socket.stat().st_gid).gr_name == "daemon"


async def test_a_socket_of_one_tenant(serve, node, document, short_folder):
    retail = short_folder / "retail.sock"
    text = serve.config.read_text() + f"- path: {retail}\n  tenants: [retail]\n"
    serve.config.write_text(text)
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    await serve.until_active(document, "edge1", "edge2")
    mine, theirs = edited(document), edited(document)
    theirs["edge"]["services"][1]["endpoints"][0]["port"] = 1
    body = {"author": "rita", "timeout_s": 20}
    refused = await asyncio.to_thread(serve.post, "/v1/revisions", {**body, "document": theirs}, retail)
    assert refused.status_code == 403
    assert "service vault (of tenant bank)" in refused.json()["error"]
    done = await asyncio.to_thread(serve.post, "/v1/revisions", {**body, "document": mine}, retail)
    assert done.json()["outcome"] == "live"
    with serve.client(retail) as client:
        seen = client.get("/v1/revisions/1").json()["document"]["edge"]
        assert [one["name"] for one in seen["services"]] == ["shop"]
        assert client.get("/v1/history").json()["revisions"][0]["lines"] == []
        assert client.get("/v1/audit").status_code == 403
        assert client.get("/v1/status").json()["certificates"].keys() == {"shop"}
        assert client.get("/v1/explain", params={"url": "https://bank.example.com/"}).status_code == 403


def test_a_second_control_on_the_same_socket_says_so(serve):
    serve.start()
    first = serve.process
    serve.spawn()
    second = serve.process
    assert second.wait(30) != 0
    serve.process = first
    assert "another xds-agent serve runs on this host" in serve.said() or "cannot listen on" in serve.said()
    assert serve.get("/v1/status").status_code == 200


async def test_strangers_are_audited_and_the_orphan_gets_nothing(serve, node, document):
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    orphan = node("edge99")
    await serve.until_active(document, "edge1", "edge2")
    async with asyncio.timeout(20):
        while True:
            rows = serve.get("/v1/audit").json()["rows"]
            if any(row["action"] == "peer.refused" and row["subject"] == "edge99" for row in rows):
                break
            await asyncio.sleep(0.2)
    assert orphan.received == []


async def test_no_secret_in_files_log_or_answers(serve, node, document):
    planted = "planted-7d1f03ab"
    document["edge"]["services"][0]["auth"] = {"type": "token", "tokens": {"partner": planted}}
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    texts = [(await serve.apply(document)).text, (await serve.apply(edited(document))).text]
    texts += [serve.get(path).text for path in ("/v1/status", "/v1/history", "/v1/revisions/1", "/v1/audit")]
    await asyncio.to_thread(serve.end)
    texts.append(serve.said())
    assert not any(planted in text for text in texts)
    for file in serve.folder.rglob("*"):
        if file.is_file():
            assert planted.encode() not in file.read_bytes(), file
    # The value is there all the same: a restart serves what it was.
    await asyncio.to_thread(serve.start)
    assert serve.get("/v1/status").json()["trouble"] == ""
