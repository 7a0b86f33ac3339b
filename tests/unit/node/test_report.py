"""What a node says of itself."""

from __future__ import annotations

import platform

from xds_agent.node.abilities import driver_of, hello, nics, xdp_of
from xds_agent.node.report import gate_counters


def test_counters_of_the_gate_are_sums():
    found = {
        "http.edge.downstream_rq_total": 5,
        "http.other.downstream_rq_total": 2,
        "http.edge.downstream_rq_5xx": 1,
        "cluster.shop.upstream_cx_connect_fail": 4,
        "cluster_manager.cds.update_rejected": 1,
        "listener_manager.lds.update_rejected": 2,
        "http.edge.downstream_rq_active": 9,
    }
    assert gate_counters(found) == {
        "downstream_rq_total": 7,
        "downstream_rq_5xx": 1,
        "upstream_cx_connect_fail": 4,
        "update_rejected": 3,
    }


def test_an_agent_that_is_away_is_no_backend_that_fails():
    """Killed while a change soaked, it made Envoy's failed tries to reach it look like the change's doing."""
    found = {
        "cluster.xds_agent.upstream_cx_connect_fail": 8,
        "cluster.envoy_admin.upstream_cx_connect_fail": 1,
    }
    assert gate_counters(found)["upstream_cx_connect_fail"] == 0


def test_how_xdp_attaches_depends_on_driver_and_mtu():
    assert xdp_of("ena", 1500) == "native"
    assert xdp_of("ena", 9001) == "generic"
    assert xdp_of("veth", 1500) == "native"
    assert xdp_of("e1000", 1500) == "generic"
    assert xdp_of("", 1500) == "none"


def test_a_driver_is_read_from_sysfs(tmp_path):
    driver = tmp_path / "drivers" / "virtio_net"
    driver.mkdir(parents=True)
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "eth0" / "device" / "driver").symlink_to(driver)
    (tmp_path / "dummy0").mkdir()
    assert driver_of("eth0", tmp_path) == "virtio_net"
    assert driver_of("dummy0", tmp_path) == ""


def test_this_very_host_can_say_hello():
    said = hello("0.1.0", "1.40.0")
    assert said.kernel == platform.release()
    assert said.machine == platform.machine()
    assert said.distribution
    names = [nic.name for nic in nics()]
    assert "lo" not in names
    assert [nic.name for nic in said.nics] == names
