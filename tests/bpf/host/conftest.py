"""The networks, the edge on them, and backends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bpf.host.networks import VIP, Backend, Edge, Networks


@pytest.fixture
def networks(program: Path) -> Iterator[Networks]:
    if shutil.which("ethtool") is None:
        pytest.skip("needs the Debian package ethtool")
    made = Networks(program)
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture
def bpffs(bpffs: Path) -> Path:
    """The agent makes it."""
    return bpffs / "marchproxy"


@pytest.fixture
def edge(networks: Networks, program: Path, bpffs: Path, tmp_path: Path) -> Iterator[Edge]:
    made = Edge(networks, program, tmp_path, bpffs, VIP)
    assert made.start() == ""
    yield made
    made.kill()


@pytest.fixture
def backend(networks: Networks) -> Iterator[Callable[[str], Backend]]:
    made: list[Backend] = []

    def start(place: str) -> Backend:
        made.append(Backend(networks, place))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def proxy(backend: Callable[[str], Backend]) -> Iterator[Backend]:
    """Something on the edge itself that serves."""
    yield backend("edge")
