"""What is taken off by hand stays off, whatever the agent is at. On veth, as in test_lockout."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.bpf.host.networks import VIP, Edge, Networks, until, within
from xds_agent.node.datapath.attachment import detach
from xds_agent.node.datapath.link import TRY_AGAIN_S
from xds_agent.node.datapath.network import Network

pytestmark = pytest.mark.root


def attached(networks: Networks) -> int:
    """Number of the XDP program on the edge's card."""

    def ask() -> int:
        with Network() as network:
            return network.interface("eth0").xdp

    return within(networks.name("edge"), ask)


@pytest.mark.parametrize("off", [False, True], ids=["with", "without"])
def test_on_probation_what_is_taken_off_by_hand_is_off_until_the_agent_starts_again(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, off: bool
) -> None:
    """Whether the agent asks with the program or without. Control comes back, which proves nothing then."""
    edge = Edge(networks, program, tmp_path, bpffs, VIP, confirm_s=10.0)
    control, record = tmp_path / "control", tmp_path / "datapath.confirmed"
    control.write_text("away")
    try:
        assert edge.start() == ""
        if off:
            until(lambda: attached(networks) == 0, "it was never tried without the program")
        assert detach(bpffs) == ([] if off else ["eth0"])
        control.write_text("back")
        end = time.monotonic() + 2 * TRY_AGAIN_S
        while time.monotonic() < end:
            assert attached(networks) == 0, "it was put on again"
            time.sleep(0.05)
        assert "taken off eth0 by hand" in edge.ask("state")["problem"] and not record.exists()
        edge.kill()
        assert edge.start() == "" and attached(networks) != 0
        until(record.exists, "it was never confirmed")
    finally:
        edge.kill()
