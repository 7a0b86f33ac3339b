"""The module `nic`: what `ethtool` says, and what has to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.marchproxy.edge.plugins.module_utils import ethtool, nic_plan
from ansible_collections.marchproxy.edge.plugins.module_utils.ethtool import Feature, Nic, NicError
from hypothesis import given
from hypothesis import strategies as st

# As ethtool 6.1 prints them.
RINGS = """Ring parameters for ens5:
Pre-set maximums:
RX:\t\t8192
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t1024
Current hardware settings:
RX:\t\t1024
RX Mini:\tn/a
RX Jumbo:\tn/a
TX:\t\t1024
RX Buf Len:\t\tn/a
CQE Size:\t\tn/a
TX Push:\toff
TCP data split:\tn/a
"""
CHANNELS = """Channel parameters for ens5:
Pre-set maximums:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\tn/a
Combined:\t8
Current hardware settings:
RX:\t\tn/a
TX:\t\tn/a
Other:\t\tn/a
Combined:\t8
"""
COALESCE = """Coalesce parameters for ens5:
Adaptive RX: on  TX: n/a
stats-block-usecs: n/a
rx-usecs: 20
rx-frames: n/a
tx-usecs: 64
tx-frames: n/a
CQE mode RX: n/a  TX: n/a
"""
FEATURES = """Features for ens5:
rx-checksumming: on [fixed]
generic-receive-offload: on
large-receive-offload: off [fixed]
rx-vlan-offload: off [requested on]
tx-nocache-copy: off
"""
INDIRECTION = """RX flow hash indirection table for ens5 with 8 RX ring(s):
    0:      0     1     2     3     4     5     6     7
    8:      0     1     2     3     4     5     6     7
RSS hash key:
00:01:02:03
RSS hash function:
    toeplitz: on
"""


def nic(**changes: Any) -> Nic:
    given = Nic(
        name="ens5", driver="ena", mtu=9001,
        channels={"combined": 8}, channels_max={"combined": 8},
        rings={"rx": 1024, "tx": 1024}, rings_max={"rx": 8192, "tx": 1024},
        offloads={"gro": Feature(True, False), "lro": Feature(False, True)},
        coalesce={"rx-usecs": 20, "tx-usecs": 64}, adaptive={"rx": True}, rss_queues=8,
    )  # fmt: skip
    return replace(given, **changes)


def planned(wanted: dict[str, Any], **changes: Any) -> list[str]:
    return [" ".join(action.command) for action in nic_plan.plan(nic(**changes), wanted)]


def test_rings_and_channels_are_read_with_their_maxima() -> None:
    limits, current = ethtool.limits_and_current(RINGS)
    assert (limits, current) == ({"rx": 8192, "tx": 1024}, {"rx": 1024, "tx": 1024})
    assert ethtool.limits_and_current(CHANNELS) == ({"combined": 8}, {"combined": 8})


def test_coalescing_features_and_rss_are_read() -> None:
    assert ethtool.coalescing(COALESCE) == ({"rx-usecs": 20, "tx-usecs": 64}, {"rx": True})
    found = ethtool.features(FEATURES)
    assert found["gro"] == Feature(on=True, fixed=False)
    assert found["rx"] == Feature(on=True, fixed=True)
    assert found["rxvlan"] == Feature(on=False, fixed=False)
    assert found["tx-nocache-copy"] == Feature(on=False, fixed=False)
    assert ethtool.rss_queues(INDIRECTION) == 8
    assert ethtool.rss_queues("Operation not supported\nRSS hash key:\n") == 0


def test_nothing_wanted_and_everything_as_wanted_change_nothing() -> None:
    assert planned({"name": "ens5"}) == []
    wanted = {
        "mtu": 9001, "channels": {"combined": "max", "rx": None}, "rings": {"tx": "max"}, "rss_queues": "max",
        "offloads": {"gro": True, "lro": False}, "coalesce": {"adaptive_rx": True, "rx_usecs": 20},
    }  # fmt: skip
    assert planned(wanted) == []


def test_channels_come_first_and_rss_last() -> None:
    """Changing channels resets rings and RSS on several drivers."""
    wanted = {
        "rss_queues": "4", "coalesce": {"adaptive_rx": False, "rx_usecs": 5}, "offloads": {"gro": False},
        "mtu": 3498, "rings": {"rx": "max"}, "channels": {"combined": "4"},
    }  # fmt: skip
    assert planned(wanted) == [
        "ethtool -L ens5 combined 4",
        "ethtool -G ens5 rx 8192",
        "ip link set dev ens5 mtu 3498",
        "ethtool -K ens5 gro off",
        "ethtool -C ens5 adaptive-rx off rx-usecs 5",
        "ethtool -X ens5 equal 4",
    ]


def test_every_impossible_wish_is_named_at_once() -> None:
    wanted = {
        "channels": {"combined": "9", "rx": "1"}, "rings": {"rx": "many"}, "rss_queues": "99",
        "offloads": {"lro": True, "nonsense": True}, "coalesce": {"adaptive_tx": True, "rx_frames": 1},
    }  # fmt: skip
    with pytest.raises(NicError) as error:
        planned(wanted)
    said = str(error.value)
    for words in (
        "channels.combined: 9 is not possible, the driver takes 1 to 8",
        "channels.rx: the driver has no such channels; it has combined",
        "rings.rx: 'many' is neither a number nor 'max'",
        "offloads.lro: the driver keeps it off",
        "offloads.nonsense: no such offload",
        "coalesce.adaptive_tx: the driver does not adapt",
        "coalesce.rx_frames: the driver has no such setting",
        "rss_queues: 99 is not possible",
    ):
        assert words in said


def test_a_driver_without_a_table_says_so() -> None:
    with pytest.raises(NicError, match="no table to spread packets by"):
        planned({"rss_queues": "2"}, rss_queues=0)


@given(
    combined=st.integers(1, 8), rx=st.integers(1, 8192), mtu=st.integers(68, 9001), usecs=st.integers(0, 200)
)
def test_undoing_a_plan_sets_what_was(combined: int, rx: int, mtu: int, usecs: int) -> None:
    wanted = {
        "channels": {"combined": str(combined)}, "rings": {"rx": str(rx)}, "mtu": mtu,
        "coalesce": {"rx_usecs": usecs},
    }  # fmt: skip
    for action in nic_plan.plan(nic(), wanted):
        assert action.command[: len(action.undo) - 1] == action.undo[:-1]
        assert action.command != action.undo
        assert action.undo[-1] in ("8", "1024", "9001", "20")


def test_what_a_driver_refuses_is_told_in_its_words() -> None:
    def run(command: list[str]) -> tuple[int, str, str]:
        return 1, "", "netlink error: requested channel count exceeds maximum\n"

    with pytest.raises(NicError, match="ethtool -L ens5 combined 4: netlink error: requested channel"):
        nic_plan.carry_out(nic_plan.plan(nic(), {"channels": {"combined": "4"}}), run)
