"""The lab's WAN between two real networks: what it does to packets, changed while they flow, and its end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.apart import TUNNELS
from lab.place import ROOT
from lab.wan import running
from lab.wan.table import MILLION, Way
from tests.support.far_networks import BACK, RIGHT, SIDES, THERE, FarNetworks, far_networks

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

DELAY_S = 0.03
LONG = Way(delay_us=round(DELAY_S * 1e6))
NUMBERS = [number.to_bytes(2, "big") for number in range(150)]


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarNetworks]:
    with far_networks(tmp_path) as made:
        yield made


def _sent(far: FarNetworks, packets: list[bytes], count: int, pad: int = 0) -> tuple[list[bytes], float]:
    """(the first `count` of what arrives on the right, seconds from before the first was sent)."""
    with (
        far.bound("right", socket.SOCK_DGRAM) as right,
        far.bound("left", socket.SOCK_DGRAM) as left,
    ):
        began = time.monotonic()
        for packet in packets:
            left.sendto(packet + bytes(pad), right.getsockname())
        return [right.recv(2048)[:2] for _ in range(count)], time.monotonic() - began


def test_packets_take_their_time_each_way_and_keep_their_order(far: FarNetworks) -> None:
    far.set(Way(delay_us=LONG.delay_us, jitter_us=10_000), LONG)
    # Jitter may bring one up to 10 ms earlier; lower bounds hold on any machine.
    arrived, took_s = _sent(far, NUMBERS, len(NUMBERS))
    assert arrived == NUMBERS and took_s >= DELAY_S - 0.010
    with far.bound("right", socket.SOCK_DGRAM) as right, far.bound("left", socket.SOCK_DGRAM) as left:
        began = time.monotonic()
        left.sendto(b"there", right.getsockname())
        right.sendto(*right.recvfrom(16))
        assert left.recv(16) == b"there"
        assert time.monotonic() - began >= 2 * DELAY_S - 0.010
    met = far.met()
    assert met[THERE][1].packets == len(NUMBERS) + 1 and met[BACK][1].packets == 1


def test_loss_is_of_one_direction_and_changes_while_it_runs(far: FarNetworks) -> None:
    far.set(Way(loss_ppm=MILLION // 2), Way())
    assert (THERE in far.met()) and (BACK not in far.met())
    with far.bound("right", socket.SOCK_DGRAM) as right, far.bound("left", socket.SOCK_DGRAM) as left:
        for _ in range(150):
            left.sendto(b"x", right.getsockname())
        right.sendto(b"back", left.getsockname())
        assert left.recv(16) == b"back"
        while far.met()[THERE][1].packets < 150:
            time.sleep(0.01)
        lost = far.met()[THERE][1].lost
        # Fewer or more of 150 is less likely than one in 10^15.
        assert 25 < lost < 125
        far.set(Way(), Way())
        left.sendto(b"last", right.getsockname())
        arrived = [right.recv(16) for _ in range(150 - lost + 1)]
        assert arrived == [b"x"] * (150 - lost) + [b"last"]


def test_a_rate_holds_and_what_a_line_has_no_room_for_is_counted(far: FarNetworks) -> None:
    far.set(Way(rate_bps=800_000), Way())
    size = 1000
    # 200 ms of it are 20 packets: of 100 at once most find no room.
    _, took_s = _sent(far, NUMBERS[:100], 20, pad=size - 2 - 28)
    assert took_s >= 20 * size * 8 / 800_000
    [(_, met)] = far.met().values()
    assert met.packets == 100 and met.overflowed > 0 and met.lost == 0


def test_tcp_with_large_segments_arrives_whole(far: FarNetworks) -> None:
    far.set(Way(delay_us=5000, jitter_us=2000), Way(delay_us=5000))
    sent = bytes(range(256)) * 4096
    received = bytearray()
    with far.bound("right", socket.SOCK_STREAM) as listener, far.bound("left", socket.SOCK_STREAM) as left:
        listener.listen()

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                while piece := connection.recv(65536):
                    received.extend(piece)

        thread = threading.Thread(target=take)
        thread.start()
        left.connect(listener.getsockname())
        left.sendall(sent)
        left.shutdown(socket.SHUT_WR)
        thread.join(60)
    assert bytes(received) == sent
    assert far.met()[THERE][1].packets > len(sent) / 1500


def test_without_distances_nothing_of_it_is_left(far: FarNetworks) -> None:
    def left_of_it() -> tuple[object, ...]:
        names = {name for _, name in socket.if_nameindex()}
        return running.device(far.place) in names, running.rules(far.place), running.state(far.place, SIDES)

    nothing = (False, set(), {})
    assert far.on_router(left_of_it) == nothing
    far.set(LONG, LONG)
    there, rules, state = far.on_router(left_of_it)
    assert (
        there
        and rules == {("left", "198.51.100.0/24", ""), ("right", "192.0.2.0/24", "")}
        and len(state) == 2
    )
    far.set(Way(), Way())
    assert far.on_router(left_of_it) == nothing
    assert _sent(far, NUMBERS[:3], 3)[0] == NUMBERS[:3]
    far.set(LONG, Way())
    assert far.on_router(lambda: running.stop(far.place)) is True
    assert far.on_router(lambda: running.stop(far.place)) is False
    assert far.on_router(left_of_it) == nothing


def test_when_its_program_dies_packets_take_the_short_way(far: FarNetworks) -> None:
    far.set(Way(loss_ppm=MILLION), Way())
    with far.bound("right", socket.SOCK_DGRAM) as right, far.bound("left", socket.SOCK_DGRAM) as left:
        left.sendto(b"lost", right.getsockname())
        while far.met()[THERE][1].lost < 1:
            time.sleep(0.01)
        # What holds the device is what kills the program: the test needs no process number.
        far.network.run("router", f"ip link del {running.device(far.place)}")
        far.network.settle()
        left.sendto(b"short", (RIGHT, right.getsockname()[1]))
        assert right.recv(16) == b"short"


def test_another_lab_of_the_checkout_ends_none_but_its_own(far: FarNetworks) -> None:
    """Molecule's hosts are a lab too, and are torn down while the user's own runs."""
    far.set(LONG, Way())
    other = replace(far.place, name="molecule", prefix=far.place.prefix.replace("-lab", "-molecule"))
    assert far.on_router(lambda: running.stop(other)) is False
    assert len(far.on_router(lambda: running.rules(far.place))) == 1 and THERE in far.met()


def test_between_clouds_apart_only_tunnels_go_by_it(
    far: FarNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lab drops between them must not come in by the WAN, though it was set before they parted."""
    far.set(Way(loss_ppm=MILLION), Way())
    assert far.on_router(lambda: running.rules(far.place)) == {("left", "198.51.100.0/24", "")}
    far.place.apart.parent.mkdir(parents=True, exist_ok=True)
    far.place.apart.touch()
    monkeypatch.setattr(running, "sides", lambda place: SIDES)
    far.on_router(lambda: running.renew(far.place))
    assert far.on_router(lambda: running.rules(far.place)) == {("left", "198.51.100.0/24", TUNNELS)}
    assert _sent(far, NUMBERS[:3], 3)[0] == NUMBERS[:3]
    with far.bound("left", socket.SOCK_DGRAM) as left:
        left.sendto(b"tunnel", (RIGHT, int(TUNNELS.partition(":")[0])))
        while far.met()[THERE][1].lost < 1:
            time.sleep(0.01)
    assert far.met()[THERE][1].packets == 1


@pytest.mark.skipif(shutil.which("clang-format") is None, reason="needs clang-format")
def test_its_source_is_formatted_as_those_of_the_datapath() -> None:
    style = ROOT / "bpf" / ".clang-format"
    checked = ["clang-format", "--dry-run", "--Werror", f"--style=file:{style}", str(running.SOURCE)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
