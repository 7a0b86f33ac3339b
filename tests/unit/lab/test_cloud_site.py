"""The lab's site file, moved into a checkout's own range of addresses."""

from __future__ import annotations

import pytest

from lab.cloud_site import RANGES, moved
from lab.errors import LabError


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
