from pathlib import Path

import pytest
import yaml

from xds_agent.api.config import ConfigError, load_config

GOOD = {
    "name": "control1",
    "trust_domain": "marchproxy.internal",
    "grpc": {"address": "10.65.0.10", "port": 18000},
    "http": {"address": "10.65.0.10", "port": 8000},
    "tls": {"certificate": "/p/host.crt", "key": "/p/host.key", "ca": "/p/ca.crt", "crl": "/p/crl.pem"},
    "state_dir": "/var/lib/marchproxy/serve",
    "database": "sqlite:////var/lib/marchproxy/serve/control.db",
    "issuing_ca": {"certificate": "/p/issuing.crt", "key": "/p/issuing.key"},
    "sockets": [{"path": "/run/marchproxy/control.sock", "group": "marchproxy", "tenants": "all"}],
}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "serve.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_what_the_role_writes_loads(tmp_path):
    config = load_config(written(tmp_path, GOOD))
    assert config.grpc.port == 18000
    assert config.key_file == Path("/var/lib/marchproxy/serve/secret.key")


def test_the_least_that_is_needed(tmp_path):
    config = load_config(written(tmp_path, {"name": "c", "tls": GOOD["tls"]}))
    assert config.database_url == "sqlite:////var/lib/marchproxy/serve/control.db"
    assert config.sockets[0].tenants == "all"


def test_all_problems_at_once(tmp_path):
    bad = {**GOOD, "grpc": {"port": 99999}, "datbase": "x", "state_dir": "relative"}
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, bad))
    words = str(caught.value)
    assert "grpc.port" in words
    assert "datbase" in words
    assert "relative must be an absolute path" in words


@pytest.mark.parametrize(
    ("content", "words"), [("- a", "keys and values"), ("a: [", "not YAML"), ("", "NoneType")]
)
def test_no_config_at_all(tmp_path, content, words):
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, content))


def test_missing_file_names_who_writes_it(tmp_path):
    with pytest.raises(ConfigError, match="roles/xds_agent"):
        load_config(tmp_path / "serve.yml")
