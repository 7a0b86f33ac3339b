"""What a compiler remembers changes how fast it is, never what it makes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.golden import words_for_keys
from xds_agent.compile import Compiled, CompileError, Compiler, KeyPair, Material
from xds_agent.model import Site
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Snapshot, digests

Edit = Callable[[dict[str, Any]], Any]


def _same(one: Snapshot, other: Snapshot) -> bool:
    raw = [
        {t: {n: r.raw for n, r in named.items()} for t, named in s.resources.items()} for s in (one, other)
    ]
    return raw[0] == raw[1] and one.revision == other.revision


EDITS: dict[str, Edit] = {
    "timeout": lambda e: e["services"][0].update(timeout="1s"),
    "endpoint": lambda e: e["services"][1]["endpoints"].append({"address": "10.9.0.1", "port": 1}),
    "dns": lambda e: e["services"][1]["endpoints"].append({"address": "x.example.net", "port": 1}),
    "new service": lambda e: e["services"].insert(0, {**e["services"][0], "name": "new", "domains": []}),
    "service gone": lambda e: e["services"].pop(),
    "renamed": lambda e: e["services"][0].update(name="z"),
    "other tenant": lambda e: (e["services"][2].update(tenant="red"), e["domains"][2].update(tenant="red")),
    "domain moved": lambda e: (
        e["services"][0].update(domains=[]),
        e["services"][1]["domains"].append("a.example.com"),
    ),
    "new route": lambda e: e["routes"].append({"domains": ["a.example.com"], "prefix": "/r", "service": "b"}),
    "policy": lambda e: e["domains"][0].update(client_auth="required", client_ca="site-ca"),
    "ports": lambda e: e.update(ports={"https": 8443}),
    "limits": lambda e: e.update(limits={"connections": 5}),
    "tcp": lambda e: e["services"].append(
        {
            "name": "t",
            "tenant": "red",
            "protocol": "tcp",
            "listen": {"port": 7000},
            "endpoints": [{"address": "10.1.0.1", "port": 1}],
        }
    ),
    "reorder": lambda e: e["services"].reverse(),
    "group": lambda e: e["services"][0].update(endpoints=[{"group": "backends", "port": 80}]),
    "upstream": lambda e: e["services"][0].update(
        upstream_tls={"ca": "site-ca", "sni": "x", "client_certificate": "blue"}
    ),
    "no redirect": lambda e: e["domains"][0].update(redirect_http=False),
    "grpc": lambda e: e["services"][0].update(protocol="grpc"),
    "grpc timeout": lambda e: e["services"][0].update(protocol="grpc", timeout="15s"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_gives_what_a_fresh_compiler_gives(
    name: str, edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    compiler = Compiler()
    first = compiled(edge, compiler).snapshots()
    edited = copy.deepcopy(edge)
    EDITS[name](edited)
    changed, fresh = compiled(edited, compiler).snapshots(), compiled(edited).snapshots()
    assert any(not _same(first[host], fresh[host]) for host in first) == (name != "reorder")
    for host, snapshot in fresh.items():
        assert _same(changed[host], snapshot), host
        assert dict(changed[host].digests) == digests(snapshot.resources)
    for host, snapshot in compiled(edge, compiler).snapshots().items():
        assert _same(first[host], snapshot), f"{host}, taken back"


def test_said_and_defaulted_timeouts_differ_though_the_models_are_equal(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    compiler = Compiler()
    edge["services"][0]["protocol"] = "grpc"
    unsaid = compiled(edge, compiler).snapshots()["both1"]
    edge["services"][0]["timeout"] = "15s"
    said = compiled(edge, compiler).snapshots()["both1"]
    assert unsaid.of_type(ROUTES)["grpc/web/none"].version != said.of_type(ROUTES)["grpc/web/none"].version


def test_what_did_not_change_is_the_same_object(
    edge: dict[str, Any], compiled: Callable[..., Compiled]
) -> None:
    compiler = Compiler()
    first = compiled(edge, compiler).snapshots()
    edge["services"][0]["connect_timeout"] = "3s"
    second = compiled(edge, compiler).snapshots()
    assert second["blue1"] is first["blue1"]
    assert second["red1"].of_type(CLUSTER)["b"] is first["red1"].of_type(CLUSTER)["b"]
    assert second["red1"].of_type(LISTENER) is first["red1"].of_type(LISTENER)
    assert second["red1"].of_type(ENDPOINTS) is first["red1"].of_type(ENDPOINTS)
    assert second["red1"].of_type(CLUSTER)["a"].version != first["red1"].of_type(CLUSTER)["a"].version


def test_a_site_that_does_not_compile_leaves_no_trace(
    edge: dict[str, Any], load: Callable[[dict[str, Any]], Site], compiled: Callable[..., Compiled]
) -> None:
    compiler = Compiler()
    compiled(edge, compiler)
    edge["services"][0]["timeout"] = "1s"
    edge["certificates"].append({"name": "late"})
    edge["domains"][0]["certificate"] = "late"
    site = load(edge)
    whole = words_for_keys(site)
    with pytest.raises(CompileError) as caught:
        compiler.compile(
            site, Material({"web": whole.key_pairs["web"], "blue": whole.key_pairs["blue"]}, whole.trusts)
        )
    assert [one.path for one in caught.value.problems] == ["domains[a.example.com]"]
    assert "late has no key pair" in caught.value.problems[0].render()
    assert _same(compiler.compile(site, whole).snapshots()["both1"], compiled(edge).snapshots()["both1"])


def test_a_renewed_key_changes_its_secret_alone(
    edge: dict[str, Any], load: Callable[[dict[str, Any]], Site]
) -> None:
    compiler, site = Compiler(), load(edge)
    material = words_for_keys(site)
    first = compiler.compile(site, material).snapshots()["both1"]
    pairs = {**material.key_pairs, "web": KeyPair(b"new chain", b"new key")}
    second = compiler.compile(site, Material(pairs, material.trusts)).snapshots()["both1"]
    differ = [t for t in first.resources if first.of_type(t) != second.of_type(t)]
    assert differ == [SECRET]
    assert second.of_type(SECRET)["certificate/blue"] is first.of_type(SECRET)["certificate/blue"]
