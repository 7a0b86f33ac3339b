"""The ports that tests listen on: nobody is given one twice, and nobody else uses them."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from tests.support import ports
from tests.support.ports import free_port, range_of


def test_none_is_handed_out_twice() -> None:
    found = [free_port() for _ in range(100)]
    assert len(set(found)) == 100


def test_workers_and_runs_without_them_have_their_own_below_those_of_the_kernel() -> None:
    ranges = [range_of(worker) for worker in ("gw0", "gw1", "")]
    assert len({port for one in ranges for port in one}) == 3 * ports.EACH
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first < 32768:
        pytest.skip("this machine's kernel chooses lower ones than Linux does as it comes")
    assert max(port for one in ranges for port in one) < first


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_one_that_somebody_has_is_left_out(
    kind: socket.SocketKind, family: socket.AddressFamily, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with socket.socket(family, kind) as taken:
        try:
            taken.bind((address, port))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        monkeypatch.setattr(ports, "_numbers", itertools.count(port - ports.FIRST))
        assert free_port() != port
