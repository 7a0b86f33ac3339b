"""The loaded program as a fixture; where BPF cannot be loaded, the tests skip and say why."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bpf.support.bench import Bench
from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.program import Features, Generation, Sizes, load

BPF = Path(__file__).resolve().parents[2] / "bpf"
SEEDED = Features(limit_seed=0x5EED, balance_seed=0xBA1A)
SMALL = Sizes(services=64, reals=64, limit_blocks=1024, flows=4096, nat_ports=4096, nat_banks=4)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-packets", type=int, default=100_000, help="random packets through program and oracle"
    )
    parser.addoption("--fuzz-seed", type=int, default=None, help="repeat a run")
    parser.addoption(
        "--write-golden", action="store_true", help="make xds_agent/datapath/fixtures.json again"
    )


@pytest.fixture(scope="session")
def program() -> Path:
    """The object, built if it is older than its sources."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    if shutil.which("clang") is None or shutil.which("make") is None:
        pytest.skip("building the datapath needs the Debian packages clang, make and libbpf-dev")
    built = subprocess.run(["make", "-C", str(BPF)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return BPF / "build" / "xdp_main.bpf.o"


@pytest.fixture
def bpffs() -> Iterator[Path]:
    """A folder of a BPF file system of the test's own, which anybody may reach. /sys/fs/bpf may not be
    mounted, may be closed to all but root, and is not ours."""
    if os.geteuid() != 0:
        pytest.skip("mounting a BPF file system needs root")
    place = Path(f"/run/mp-bpffs-{uuid.uuid4().hex[:8]}")
    place.mkdir()
    try:
        mount = ["mount", "-t", "bpf", "-o", "mode=755", "bpf", str(place)]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no BPF file system can be mounted here: {mounted.stderr.strip()}")
        # Not its root: there another test's iproute2 may make folders; any such file system will do for it.
        folder = place / "pins"
        folder.mkdir()
        yield folder
        subprocess.run(["umount", str(place)], check=True)
    finally:
        place.rmdir()


Loader = Callable[..., Generation]


@pytest.fixture
def loaded(program: Path) -> Iterator[Loader]:
    """Loads generations and closes them."""
    generations: list[Generation] = []

    def make(**options: object) -> Generation:
        options.setdefault("sizes", SMALL)
        options.setdefault("features", SEEDED)
        try:
            generations.append(load(program, **options))  # type: ignore[arg-type]
        except Unavailable as reason:
            pytest.skip(str(reason))
        return generations[-1]

    yield make
    for generation in generations:
        generation.close()


@pytest.fixture
def bench(loaded: Loader) -> Bench:
    """A program with four reals, services by every way of forwarding, and helpers to ask it."""
    return Bench(loaded())
