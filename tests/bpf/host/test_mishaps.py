"""An agent that is killed in the middle of an edit, or started with an object that is none: what was
confirmed last goes on, and is what its successor brings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.host.networks import VIP, Backend, Edge, Networks, greeting, service, until

pytestmark = pytest.mark.root
OLD = service("tcp", "real"), service("udp", "real")
NEW_PORT = 7101
# Another backend, a service more, one less.
NEW = (
    service("tcp", "other"),
    service("tcp", "other", name="more", listen={"address": "vip", "port": NEW_PORT}),
)


@pytest.fixture
def edge_with(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, backend: Callable[[str], Backend]
) -> Iterator[Callable[..., Edge]]:
    """The edge on which OLD is live; both backends stand."""
    made: list[Edge] = []

    def make(**more: Any) -> Edge:
        made.append(Edge(networks, program, tmp_path, bpffs, VIP, **more))
        backend("real"), backend("other")
        assert made[-1].start() == "" and made[-1].apply(*OLD) == ""
        return made[-1]

    yield make
    for one in made:
        one.kill()


def who_serves(networks: Networks, port: int = 7100) -> str:
    with networks.client((VIP, port)) as connection:
        return greeting(connection)


def is_served(networks: Networks, port: int) -> bool:
    try:
        return bool(who_serves(networks, port))
    except OSError:
        return False


@pytest.mark.parametrize("at", ["put_service", "delete_service"])
def test_killed_between_two_writes(
    networks: Networks, tmp_path: Path, edge_with: Callable[..., Edge], at: str
) -> None:
    """Rings are stepped by then; of the services none, or all but the one that goes, are written."""
    edge = edge_with(environment={"DIES_AT": at})
    with networks.client((VIP, 7100)) as connection:
        assert greeting(connection) == "real"
        (tmp_path / "die").touch()
        with pytest.raises(ValueError):
            edge.apply(*NEW)
        connection.sendall(b"nobody looks after it")
        assert connection.recv(64) == b"nobody looks after it"
        edge.kill()
        assert edge.start() == ""
        assert sorted(one["name"] for one in edge.ask("state")["services"]) == ["echo-tcp", "echo-udp"]
        assert who_serves(networks) == "real" and not is_served(networks, NEW_PORT)
        connection.sendall(b"and with a successor")
        assert connection.recv(64) == b"and with a successor"
    assert edge.apply(*NEW) == ""
    assert who_serves(networks) == who_serves(networks, NEW_PORT) == "other"


def test_killed_while_an_edit_waits_to_be_confirmed(
    networks: Networks, tmp_path: Path, edge_with: Callable[..., Edge]
) -> None:
    edge = edge_with(confirm_s=20.0)
    (tmp_path / "control").write_text("lost")

    def apply() -> None:
        with contextlib.suppress(ValueError, AttributeError):
            edge.apply(*NEW)

    applying = threading.Thread(target=apply)
    applying.start()
    until(lambda: is_served(networks, NEW_PORT), "the edit was never live")
    edge.kill()
    applying.join()
    (tmp_path / "control").write_text("back")
    assert edge.start() == ""
    assert who_serves(networks) == "real" and not is_served(networks, NEW_PORT)


def test_an_object_without_types_is_named_and_the_program_before_runs_on(
    networks: Networks, program: Path, bpffs: Path, tmp_path: Path, edge_with: Callable[..., Edge]
) -> None:
    edge_with().kill()
    broken = tmp_path / "broken" / program.name
    broken.parent.mkdir()
    # The head of its section .BTF: magic, version, flags, length.
    broken.write_bytes(program.read_bytes().replace(b"\x9f\xeb\x01\x00\x18\x00\x00\x00", bytes(8)))
    edge = Edge(networks, broken, tmp_path, bpffs, VIP)
    try:
        assert f"opening {broken}, which has to be a BPF object with its types (BTF)" in edge.start()
        assert who_serves(networks) == "real"
    finally:
        edge.kill()
