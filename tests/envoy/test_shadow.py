"""Shadows with a real Envoy in an empty network namespace."""

from __future__ import annotations

import asyncio
import copy
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from envoy.config.listener.v3 import listener_pb2

from tests.support import golden
from tests.support.fake_fleet import FakeFleet
from tests.support.real_material import real_material
from tests.support.resources import cluster, endpoints, listener, replaced, routes, site
from tests.support.site_pki import key_pem
from tests.support.small_site import DOCUMENT
from xds_agent.compile import Compiler
from xds_agent.model import load_site
from xds_agent.node.admin import Admin
from xds_agent.rollout.change import Change, Conflict
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.rollout.shadow import MOST, Shadows
from xds_agent.snapshot.resource import EMPTY, LISTENER, Resource
from xds_agent.store import Store


def _may_stand_alone() -> bool:
    """Whether this user may make a network namespace here."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(not _may_stand_alone(), reason="user namespaces are not allowed here"),
]

ELSEWHERE = "192.0.2.7"


@pytest.fixture
async def shadows(envoy_path):
    folder = Path(tempfile.mkdtemp(prefix="mps-"))
    shadows = Shadows(envoy_path, folder)
    yield shadows
    await shadows.stop()
    shutil.rmtree(folder)


@pytest.fixture
def good():
    return replaced(site(443, {"shop": [8080]}), placed(reuse_port=True))


def placed(*, reuse_port, address=ELSEWHERE):
    """The listener on an address that this machine does not have, on a port that needs a privilege."""
    message = listener_pb2.Listener.FromString(listener("edge", 443, "edge").body.value)
    message.address.socket_address.address = address
    message.enable_reuse_port.value = reuse_port
    return Resource.of(LISTENER, "edge", message)


async def refused(shadows, old, new):
    tried = await shadows.try_out({"edge1": old}, {"edge1": new})
    assert tried.notes == ()
    return tried.refusals.get("edge1")


@pytest.fixture
async def live(shadows, good):
    """The shadow holds `good`, brought there by a first change."""
    assert await refused(shadows, EMPTY, good) is None
    return good


async def test_a_good_change_passes_and_the_same_envoy_stays(shadows, live):
    [before] = shadows._resident
    after = replaced(
        live, cluster("later"), endpoints("later", 1), routes("edge", {"a": "shop", "b": "later"})
    )
    assert await refused(shadows, live, after) is None
    assert shadows._resident == [before]


@pytest.mark.parametrize(
    ("bad", "name", "words"),
    [
        (lambda: [cluster("shop", bad_ring=True)], "shop", "minimum_ring_size"),
        (lambda: [routes("edge", {"shop": "shop"}, regex="(unclosed")], "edge", "missing )"),
        (lambda: [placed(reuse_port=False)], "edge", "reuse port"),
    ],
    ids=["ring", "regex", "reuse_port, which only an update refuses"],
)
async def test_what_envoy_refuses_stops_here_and_the_next_change_meets_a_sound_shadow(
    shadows, live, bad, name, words
):
    refusal = await refused(shadows, live, replaced(live, *bad()))
    assert refusal is not None
    assert name in refusal.names
    assert words in refusal.words
    assert shadows._resident == []
    assert await refused(shadows, live, replaced(live, endpoints("shop", 8081))) is None


@pytest.mark.parametrize("name", golden.CASES)
async def test_a_shadow_shows_just_what_every_golden_site_was_compiled_to(shadows, name):
    """Secrets, DNS clusters, UDP listeners: an acknowledgement that the comparison would doubt is none."""
    case = golden.case(name)
    material, _ = real_material(case.site)
    snapshots = Compiler().compile(case.site, material, now=case.now).snapshots()
    views = {one.revision: (host, one) for host, one in snapshots.items()}
    tried = await shadows.try_out({}, dict(list(views.values())[:MOST]))
    assert (tried.refusals, tried.notes) == ({}, ())


async def test_equal_views_share_one_shadow_and_there_is_a_bound(shadows, good):
    other = replaced(good, endpoints("shop", 8081))
    tried = await shadows.try_out({}, {"edge1": good, "edge2": good, "edge3": other})
    assert (tried.refusals, tried.notes, len(shadows._resident)) == ({}, (), 2)
    many = {f"edge{n}": replaced(good, endpoints("shop", 9000 + n)) for n in range(MOST + 1)}
    tried = await shadows.try_out(dict.fromkeys(many, good), many)
    assert tried.notes == (f"1 of {MOST + 1} views were not tried: {MOST} shadows at most",)
    assert len(shadows._resident) == MOST


async def test_a_shadow_that_died_between_two_changes_is_replaced_and_the_change_is_tried(shadows, live):
    [dead] = shadows._resident
    dead._process.kill()
    await dead._process.wait()
    bad = replaced(live, routes("edge", {"shop": "shop"}, regex="(unclosed"))
    refusal = await refused(shadows, live, bad)
    assert refusal is not None and "missing )" in refusal.words


async def test_a_change_on_which_envoy_crashes_twice_is_refused(shadows, live):
    """A shadow that is gone must not wave through what would take every proxy's Envoy down."""
    # The cluster waits for endpoints that never come: Envoy is led, and not done, when it crashes.
    trying = asyncio.create_task(
        shadows.try_out({"edge1": live}, {"edge1": replaced(live, cluster("later"))})
    )
    crashed = set()
    while not trying.done():
        for shadow in shadows._resident:
            if shadow._link.met and shadow not in crashed:
                shadow._process.send_signal(signal.SIGSEGV)
                crashed.add(shadow)
        await asyncio.sleep(0.001)
    assert len(crashed) == 2
    assert "two Envoys in a row crashed on it" in trying.result().refusals["edge1"].words


async def test_a_shadow_that_cannot_start_says_nothing_about_the_change(good):
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        tried = await Shadows(Path("/nonexistent/envoy"), Path(folder)).try_out({}, {"edge1": good})
    assert tried.refusals == {}
    [note] = tried.notes
    assert note.startswith("no shadow for the view of edge1: its Envoy ended")


@pytest.fixture
def pipeline(shadows, pki, tmp_path):
    (pki.folder / "issuing.crt").write_bytes(pki.issuer.pem)
    (pki.folder / "issuing.key").write_bytes(key_pem(pki.issuer.key))
    ca = SiteCa(
        pki.folder / "ca.crt", pki.folder / "crl.pem", pki.folder / "issuing.crt", pki.folder / "issuing.key"
    )
    store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    yield Pipeline(store, Publisher(), ca, shadows=shadows)
    store.close()


async def test_what_the_shadow_refuses_no_proxy_sees(pipeline):
    """A whole site, compiled; its proxies would take anything."""
    fleet = FakeFleet(pipeline.publisher)
    proxies = [fleet.connect("edge1"), fleet.connect("edge2")]
    document = copy.deepcopy(DOCUMENT)
    first = await pipeline.apply(Change(document=document, author="ada"))
    assert (first.outcome, first.notes) == ("live", [])
    bad = copy.deepcopy(document)
    # Together they repeat more than the 1000 times RE2 allows: only Envoy finds that out.
    bad["edge"]["routes"][0] = {
        "domains": ["shop.example.com"], "regex": "/old/(?:a{50}){50}", "service": "shop"
    }  # fmt: skip
    bad["origins"]["edge.routes[0]"] = "edge/routes.yml:2:5"
    answer = await pipeline.apply(Change(document=bad, author="ada"))
    assert (answer.outcome, answer.reverted_to) == ("refused", 1)
    assert "the shadow of edge1 refused" in answer.problems[0].message
    assert "invalid repetition size" in answer.problems[0].message
    assert answer.problems[0].origin == "edge/routes.yml:2:5"
    assert [len(proxy.received) for proxy in proxies] == [1, 1]
    assert {view.state for view in answer.nodes.values()} == {"active"}
    with pytest.raises(Conflict, match="revision 2 held exactly this and was refused"):
        await pipeline.apply(Change(document=bad, author="ada"))
    bad["edge"]["routes"][0]["regex"] = "/old/a+"
    assert (await pipeline.apply(Change(document=bad, author="ada"))).outcome == "live"
    assert [len(proxy.received) for proxy in proxies] == [2, 2]


async def test_skip_bad_finds_what_envoy_refuses_among_what_it_takes(pipeline):
    """Three routes of nine are bad, each in its own way that only Envoy finds."""
    fleet = FakeFleet(pipeline.publisher)
    fleet.connect("edge1"), fleet.connect("edge2")
    await pipeline.apply(Change(document=copy.deepcopy(DOCUMENT), author="ada"))
    edited = copy.deepcopy(DOCUMENT)
    shop = {"domains": ["shop.example.com"], "service": "shop"}
    edited["edge"]["routes"] += [{"name": f"good{n}", "prefix": f"/good{n}", **shop} for n in range(6)]
    edited["edge"]["routes"] += [
        {"name": f"bad{n}", "regex": f"/{n}/(?:a{{50}}){{{50 + n}}}", **shop} for n in range(3)
    ]
    answer = await pipeline.apply(Change(document=edited, author="ada", skip_bad=True))
    assert answer.outcome == "live"
    names = {route.name for route in pipeline.live.site.edge.routes}
    assert names == {None, *(f"good{n}" for n in range(6))}
    skipped = {one["path"]: one["words"] for one in pipeline.live.document["skipped"]}
    assert skipped.keys() == {"routes[bad0]", "routes[bad1]", "routes[bad2]"}
    assert all("invalid repetition size" in words for words in skipped.values())
    assert {view.state for view in answer.nodes.values()} == {"active"}


async def test_a_backend_behind_the_port_of_our_own_listener_is_not_the_shadow_itself(shadows):
    """Every address is local there: its checks met our listener on that port, which asked it again."""
    edge = {
        "services": [
            {
                "name": "raw", "protocol": "tcp", "listen": {"port": 7000},
                "endpoints": [{"address": "192.0.2.8", "port": 7000}],
                "health": {"type": "tcp", "interval": "1s"},
            }
        ]
    }  # fmt: skip
    hosts = {"edge1": {"address": "10.0.0.1", "groups": ["ingress"]}}
    loaded = load_site({"schema": 1, "edge": edge, "hosts": hosts, "origins": {}})
    material, _ = real_material(loaded)
    snapshots = Compiler().compile(loaded, material).snapshots()
    assert await refused(shadows, EMPTY, snapshots["edge1"]) is None
    [shadow] = shadows._resident

    async def counted(name):
        said = await Admin(shadow._admin).get(f"/stats?filter=^{name.replace('.', '[.]')}$")
        return int(said.rpartition(b":")[2])

    async with asyncio.timeout(60):
        while await counted("cluster.raw.health_check.failure") < 2:  # noqa: ASYNC110  Envoy tells nobody
            await asyncio.sleep(0.05)
    assert await counted("cluster.raw.health_check.success") == 0
    assert await counted("listener.tcp-7000.downstream_cx_total") == 0
