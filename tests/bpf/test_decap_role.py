"""What role decap puts on a backend, and a service of `forward: gue` through it: whole connections."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.test_node_agent import (
    ROOT,
    VIP,
    Backend,
    Edge,
    Networks,
    backend,
    bpffs,
    edge,
    greeting,
    networks,
    service,
)

__all__ = ["backend", "bpffs", "edge", "networks"]  # fixtures
pytestmark = pytest.mark.root
PROGRAM = ROOT / "roles" / "decap" / "files" / "decap.py"


@pytest.fixture
def decap(networks: Networks, program: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs the role's program on the backend; returns what it says on stderr."""
    if shutil.which("bpftool") is None:
        pytest.skip("needs the Debian package bpftool")
    pins, settings = tmp_path / "decap", tmp_path / "decap.json"

    def run(*words: str, **more: Any) -> str:
        said = {
            "interfaces": ["eth0"], "addresses": [VIP], "edges": ["10.99.2.2"], "mode": "native",
            "program": str(program.parent / "decap.bpf.o"), "pins": str(pins), **more,
        }  # fmt: skip
        settings.write_text(json.dumps(said))
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{networks.name('real')}", sys.executable, str(PROGRAM), *words,
             str(settings)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert bool(done.stderr) == bool(done.returncode)
        return done.stderr

    yield run
    run("--off")


def by_gue() -> dict[str, Any]:
    listen = {"address": "vip", "port": 7000}
    return service("tcp", "real", forward="gue", listen=listen)


def test_connections_by_gue_reach_a_backend_that_answers_by_itself(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], decap: Callable[..., str]
) -> None:
    """The client's own address reaches the backend; running it again exchanges the program in place."""
    backend("real")
    assert decap() == ""
    assert edge.apply(by_gue()) == ""
    with networks.client((VIP, 7000)) as connection:
        assert greeting(connection) == "real"
        assert decap() == ""
        connection.sendall(b"through the next program")
        assert connection.recv(64) == b"through the next program"
    assert edge.ask("counters")["echo-tcp"]["send_gue"] > 3


def test_only_edges_may_encapsulate(
    networks: Networks, edge: Edge, backend: Callable[[str], Backend], decap: Callable[..., str]
) -> None:
    backend("real")
    assert decap(edges=["10.99.9.0/24", "2001:db8::/64"]) == ""
    assert edge.apply(by_gue()) == ""
    with pytest.raises(TimeoutError):
        networks.client((VIP, 7000), timeout_s=1.0)


def test_another_program_is_named_and_left_alone(
    networks: Networks, program: Path, decap: Callable[..., str]
) -> None:
    other = str(program.parent / "xdp_pass.bpf.o")
    place = ("-n", networks.name("real"), "link", "set", "dev", "eth0")
    subprocess.run(["ip", *place, "xdpdrv", "obj", other, "sec", "xdp"], check=True)
    words = decap()
    assert "eth0 carries another XDP program already (xdp_pass)" in words
    subprocess.run(["ip", *place, "xdpdrv", "off"], check=True)
    assert decap() == ""
