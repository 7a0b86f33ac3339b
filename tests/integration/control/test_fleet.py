"""The fleet module through ansible-playbook, against a real control host; nodes are agents without Envoy."""

import asyncio

from tests.support.fake_fleet import Refuse
from tests.support.processes import until
from xds_agent.snapshot.resource import CLUSTER


async def play(site, *arguments, **more):
    """Off the event loop, in which the test's nodes live."""
    return await asyncio.to_thread(lambda: site.play(*arguments, **more))


async def result(site, *arguments):
    return await asyncio.to_thread(site.result, *arguments)


async def all_active(serve):
    """Newcomers may come too late for the change, and have it when they come."""

    def states():
        return {one["state"] for one in serve.get("/v1/status").json()["nodes"].values()}

    await until(lambda: states() == {"active"}, patience_s=60)


async def test_check_diff_apply_and_no_change(serve, node, small_site):
    await asyncio.to_thread(serve.start)
    edges = [node("edge1"), node("edge2")]
    before = await play(small_site, "--check", "--diff")
    assert before.code == 0, before
    assert "service shop" in before.output
    assert serve.get("/v1/history").json()["revisions"] == []

    applied = await result(small_site, "--diff", "-e", "reason=CHG-812")
    assert (applied["changed"], applied["number"]) == (True, 1)
    assert applied["nodes"].keys() == {"edge1", "edge2"}
    await all_active(serve)
    assert all(edge.holds for edge in edges)
    [row] = serve.get("/v1/history").json()["revisions"]
    assert row["reason"] == "CHG-812"
    assert "@" in row["author"]

    again = await play(small_site, "--diff")
    assert "changed=0" in again.output, again
    assert len(serve.get("/v1/history").json()["revisions"]) == 1


async def test_the_diff_says_an_edited_split_in_plain_words_and_check_changes_nothing(
    serve, node, small_site
):
    await asyncio.to_thread(serve.start)
    edges = [node("edge1"), node("edge2")]
    await play(small_site)
    await all_active(serve)
    held = [edge.holds for edge in edges]
    small_site.edit("inventory/edge/routes.yml", "{shop: 95, shop-v2: 5}", "{shop: 80, shop-v2: 20}")
    checked = await play(small_site, "--check", "--diff")
    assert checked.code == 0, checked
    lines = checked.output.splitlines()
    said = next(line for line in lines if "80 %" in line)
    assert "/api" in said
    assert "20 % shop-v2" in said
    assert "edge1, edge2:" in checked.output
    assert "0 connections closed" in checked.output
    assert '"split"' not in checked.output
    assert "changed=1" in checked.output
    assert [edge.holds for edge in edges] == held
    applied = await play(small_site, "--diff")
    assert said in applied.output
    assert [edge.holds for edge in edges] != held


async def test_a_refusal_fails_the_play_with_words_and_line(serve, node, small_site):
    await asyncio.to_thread(serve.start)
    node("edge1")
    picky = node("edge2")
    await play(small_site)
    await all_active(serve)
    held = picky.holds
    picky.decide = lambda complete: (
        None
        if complete.snapshot.revision == held
        else Refuse("minimum_ring_size exceeds maximum", CLUSTER, ("shop",))
    )
    small_site.edit("inventory/edge/shop.yml", "10.1.0.12, port: 8080", "10.1.0.12, port: 8081")
    refused = await result(small_site)
    assert refused["failed"]
    assert "the revision was refused; revision 1 is live again" in refused["msg"]
    assert "edge2 refused cluster shop: minimum_ring_size exceeds maximum" in refused["msg"]
    assert "shop.yml:2" in refused["msg"]
    assert refused["nodes"]["edge2"]["state"] == "refused"


async def test_a_proxy_that_is_away_is_a_warning(serve, node, small_site):
    await asyncio.to_thread(serve.start)
    node("edge1")
    played = await play(small_site)
    assert played.code == 0, played
    assert "edge2 is not connected and keeps the last good configuration" in " ".join(played.output.split())


async def test_a_removed_service_must_be_named(serve, node, small_site):
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    await play(small_site)
    text = (small_site.inventory / "edge/shop.yml").read_text()
    small_site.write("inventory/edge/shop.yml", text.split("  - name: shop-v2")[0])
    small_site.write("inventory/edge/routes.yml", "routes: []\n")
    refused = await result(small_site, "--check")
    assert refused["failed"]
    assert "service shop-v2 would be removed" in refused["msg"]
    assert "-e allow_removal=shop-v2" in refused["msg"]
    assert "what it would change:" in refused["msg"] and "shop-v2 is removed" in refused["msg"]
    allowed = await result(small_site, "-e", "allow_removal=other,shop-v2")
    assert allowed["changed"]


async def test_rollback_and_status_by_module(serve, node, small_site):
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    await play(small_site)
    small_site.edit("inventory/edge/routes.yml", "{shop: 95, shop-v2: 5}", "{shop: 80, shop-v2: 20}")
    await play(small_site)
    small_site.write(
        "rollback.yml",
        "- name: Back\n  hosts: control\n  gather_facts: false\n  tasks:\n"
        "    - name: Return to the first\n      marchproxy.edge.fleet:\n"
        "        socket: '{{ control_socket }}'\n        rollback_to: 1\n"
        "    - name: Ask\n      marchproxy.edge.fleet_info:\n"
        "        socket: '{{ control_socket }}'\n        history: 3\n      register: info\n"
        "    - name: Show\n      ansible.builtin.debug:\n"
        '        msg: "live {{ info.status.revision.number }}"\n',
    )
    played = await play(small_site, playbook="rollback.yml")
    assert played.code == 0, played
    assert "live 3" in played.output
    assert serve.get("/v1/status").json()["revision"]["reason"] == "rollback to revision 1"


async def test_no_verbosity_shows_a_secret(serve, node, small_site):
    planted = "planted-4f81c0de"
    small_site.edit(
        "inventory/edge/shop.yml",
        "    domains: [shop.example.com]\n",
        f"    domains: [shop.example.com]\n    auth: {{type: token, tokens: {{partner: '{planted}'}}}}\n",
    )
    await asyncio.to_thread(serve.start)
    node("edge1"), node("edge2")
    played = await play(small_site, "-vvvv", "--diff")
    assert played.code == 0, played
    small_site.edit("inventory/edge/shop.yml", planted, planted + "-rotated")
    rotated = await play(small_site, "-vvvv", "--diff")
    assert "changed=1" in rotated.output
    assert planted not in played.output + rotated.output
    # Nothing stays on the control host either.
    left = [path for path in small_site.folder.glob("ansible-*/**/*") if path.is_file()]
    assert not any(planted.encode() in path.read_bytes() for path in left)
