"""The lab's site file, moved into a checkout's own range of addresses."""

from __future__ import annotations

import pytest
import yaml

from lab.cloud_site import RANGES, moved, with_login
from lab.errors import LabError
from lab.from_pulumi import SITE


def test_networks_move_and_keep_their_place() -> None:
    """A region added before another moves nobody: each network's place follows from its own number."""
    first = "regions:\n  a:\n    network: 10.201.0.0/22\n"
    more = "regions:\n  b:\n    network: 10.204.0.0/22  # new\n  a:\n    network: 10.201.0.0/22\n"
    assert moved(first, 150) == "regions:\n  a:\n    network: 10.150.68.0/22\n"
    assert "    network: 10.150.80.0/22  # new\n" in moved(more, 150)
    assert "    network: 10.150.68.0/22\n" in moved(more, 150)


def test_whoever_logs_in_comes_from_where_no_cloud_is() -> None:
    assert (
        moved("sources: [10.200.0.0/22, 192.0.2.0/24]\n", 150) == "sources: [10.150.64.0/22, 192.0.2.0/24]\n"
    )
    first, _ = RANGES
    assert first > 67


@pytest.mark.parametrize(
    "range_",
    ["10.199.0.0/22", "10.200.0.0/22", "10.248.0.0/22", "10.201.0.0/20", "192.168.0.0/22", "10.201.4.0/22"],
)
def test_a_network_that_has_no_place_is_refused(range_: str) -> None:
    with pytest.raises(LabError, match="cannot be placed on this machine"):
        moved(f"network: {range_}\n", 150)


def test_the_labs_own_login_is_let_in_beside_those_of_the_file() -> None:
    keys = "    - ssh-ed25519 A a, b\n    # C\n    - ssh-ed25519 C\n"
    text = f"name: lab\nssh:\n  authorized_keys:  # people\n{keys}"
    for end in ("  sources: []\nclouds: {}\n", ""):
        assert yaml.safe_load(with_login(text + end, "ssh-ed25519 B")) == {
            **yaml.safe_load(text + end),
            "ssh": {
                **yaml.safe_load(text + end)["ssh"],
                "authorized_keys": ["ssh-ed25519 B", "ssh-ed25519 A a, b", "ssh-ed25519 C"],
            },
        }
    flow = with_login("ssh: {authorized_keys: [ssh-ed25519 A]}\n", "ssh-ed25519 B")
    assert yaml.safe_load(flow) == {"ssh": {"authorized_keys": ["ssh-ed25519 B", "ssh-ed25519 A"]}}
    for without in ("ssh: {}\n", "ssh:\n  authorized_keys: []\n", "[]\n", ""):
        with pytest.raises(LabError, match=r"no list ssh\.authorized_keys"):
            with_login(without, "ssh-ed25519 B")


def test_a_mistake_is_in_the_line_of_the_file_that_people_edit() -> None:
    text = SITE.read_text()
    made = with_login(moved(text, 150), "ssh-ed25519 B").splitlines()
    written = text.splitlines()
    differ = {line for line, other in zip(written, made, strict=True) if line != other}
    keys = [line for line in differ if "authorized_keys" in line or "- ssh-" in line]
    networks = {line for line in differ if "10.2" in line}
    assert len(keys) == 2 and differ == {*keys, *networks}
    broken = "ssh:\n  authorized_keys: [\n"
    assert with_login(broken, "ssh-ed25519 B") == broken
