"""Envoy's bootstrap as the agent writes it."""

from __future__ import annotations

import json

import pytest

from xds_agent.node.bootstrap import render
from xds_agent.node.config import EnvoyConfig, NodeConfig, Tls


@pytest.fixture
def config():
    return NodeConfig(
        name="edge-aws1",
        control=["10.65.0.10:18000"],
        control_names=["control1"],
        tls=Tls(certificate="/crt", key="/key", ca="/ca"),
        envoy=EnvoyConfig(max_heap_mb=512),
    )


def test_the_node_agent_is_the_only_xds_peer(config):
    document = json.loads(render(config))
    ads = document["dynamicResources"]["adsConfig"]
    assert ads["apiType"] == "DELTA_GRPC"
    assert ads["setNodeOnFirstMessageOnly"] is True
    [service] = ads["grpcServices"]
    assert service["envoyGrpc"]["clusterName"] == "xds_agent"
    assert service["envoyGrpc"]["retryPolicy"]["retryBackOff"] == {
        "baseInterval": "0.050s",
        "maxInterval": "0.500s",
    }
    [cluster] = document["staticResources"]["clusters"]
    address = cluster["loadAssignment"]["endpoints"][0]["lbEndpoints"][0]["endpoint"]["address"]
    assert address == {"pipe": {"path": "/run/marchproxy/node/xds.sock"}}
    assert document["node"] == {"id": "edge-aws1", "cluster": "marchproxy"}


def test_admin_is_a_unix_socket_of_the_group_and_cannot_quit(config):
    admin = json.loads(render(config))["admin"]
    assert admin["address"] == {"pipe": {"path": "/run/marchproxy/envoy/admin.sock", "mode": 0o660}}
    allowed = [path.get("prefix") or path["exact"] for path in admin["allowPaths"]]
    assert not any("/quitquitquit".startswith(path) for path in allowed)
    assert {"exact": "/runtime"} in admin["allowPaths"]
    assert "/ready" in allowed


def test_limits_come_from_the_config(config):
    monitors = json.loads(render(config))["overloadManager"]["resourceMonitors"]
    by_name = {monitor["name"]: monitor["typedConfig"] for monitor in monitors}
    assert by_name["envoy.resource_monitors.fixed_heap"]["maxHeapSizeBytes"] == str(512 << 20)
    connections = by_name["envoy.resource_monitors.global_downstream_max_connections"]
    assert connections["maxActiveDownstreamConnections"] == "50000"


def test_envoy_waits_for_its_agent_without_a_limit(config):
    document = json.loads(render(config))
    dynamic = document["dynamicResources"]
    assert {dynamic[key]["initialFetchTimeout"] for key in ("cdsConfig", "ldsConfig")} == {"0s"}
    names = [layer["name"] for layer in document["layeredRuntime"]["layers"]]
    assert names == ["base", "inventory", "admin"]


def test_the_loopback_admin_port_is_there_only_when_asked(config):
    assert "listeners" not in json.loads(render(config))["staticResources"]
    asked = config.model_copy(update={"envoy": EnvoyConfig(max_heap_mb=512, admin_port=9901)})
    [listener] = json.loads(render(asked))["staticResources"]["listeners"]
    assert listener["address"]["socketAddress"] == {"address": "127.0.0.1", "portValue": 9901}


def test_same_config_same_bytes(config):
    assert render(config) == render(config.model_copy())
