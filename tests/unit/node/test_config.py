"""node.yml: good ones load, bad ones give one error that names every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from xds_agent.node.config import ConfigError, load_config

GOOD = """\
name: edge-aws1
trust_domain: marchproxy.internal
control: ["10.65.0.10:18000", "10.65.0.11:18000"]
control_names: [control1]
tls: {certificate: /etc/host.crt, key: /etc/host.key, ca: /etc/ca.crt}
"""


def test_the_least_file_has_the_documented_defaults(tmp_path):
    path = tmp_path / "node.yml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.envoy.xds_socket == Path("/run/marchproxy/node/xds.sock")
    assert config.metrics.port == 8082
    assert config.targets() == [("10.65.0.10:18000", "control1"), ("10.65.0.11:18000", "control1")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("control: []", "control: List should have at least 1 item"),
        ("control: [nowhere]", "control.0: Value error, 'nowhere' is not address:port"),
        ("control: ['[::zz]:1']", "control.0"),
        ("envoy: {xds_sokcet: /a}", "envoy.xds_sokcet: Extra inputs are not permitted"),
        (f"envoy: {{xds_socket: /{'a' * 120}}}", "a Unix socket's path has at most 107 bytes"),
        ("metrics: {port: 70000}", "metrics.port"),
        ("datapath: {interfaces: [eth0], services: 65537}", "datapath.services"),
        ("control_names: [a, b, c]", "control_names has more entries than control"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, change, words):
    path = tmp_path / "node.yml"
    key = change.split(":", 1)[0]
    kept = [line for line in GOOD.splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*kept, change]))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_all_faults_are_named_at_once(tmp_path):
    path = tmp_path / "node.yml"
    path.write_text("name: ''\ncontrol: [x]\ncontrol_names: [c]\nbogus: 1\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    for where in ("name:", "control.0:", "tls:", "bogus:"):
        assert where in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: [", b"- just\n- a list\n"])
def test_what_is_no_yaml_mapping_is_one_clear_error(tmp_path, content):
    path = tmp_path / "node.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"node\.yml"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yml"):
        load_config(tmp_path / "gone.yml")
