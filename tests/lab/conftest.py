"""The lab that these tests bring up, break and remove: that of a copy of the tree, beside the user's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.checkout import Checkout

UP_S = 1500


@dataclass(frozen=True)
class Lab:
    """A provisioned lab, and what ``script/lab up --json`` said of it."""

    checkout: Checkout
    said: dict[str, Any]
    code: int

    def host(self, name: str) -> dict[str, Any]:
        return next(host for host in self.said["hosts"] if host["name"] == name)

    def on(self, host: str, *command: str) -> str:
        """Run a command on a host; its output."""
        return self.checkout.must("script/lab", "ssh", host, *command)

    def traffic(self, *words: str) -> list[dict[str, Any]]:
        """Rows of the traffic table whose name holds one of ``words`` (all, without one)."""
        only = [part for word in words for part in ("--only", word)]
        rows: list[dict[str, Any]] = json.loads(
            self.checkout.run("script/lab", "traffic", "--json", *only).stdout
        )
        return rows


def able() -> None:
    """Skip where there can be no lab."""
    if os.getuid() != 0:
        pytest.skip("the lab's hosts are podman containers of root: run as root")
    if not shutil.which("podman"):
        pytest.skip("podman is not installed: script/test installs it")


@pytest.fixture
def bare_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy of the tree whose lab, if a test makes one, is removed afterwards."""
    able()
    checkout = Checkout.copied_to(tmp_path_factory.mktemp("bare") / "checkout")
    yield checkout
    checkout.run("script/lab", "down")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The whole site, once for all tests; each leaves it as it found it."""
    able()
    checkout = Checkout.copied_to(tmp_path_factory.mktemp("lab") / "checkout")
    try:
        done = checkout.run("script/lab", "up", "--json", timeout_s=UP_S)
        assert done.stdout, f"script/lab up gave {done.returncode} and no result\n{done.stderr}"
        yield Lab(checkout, json.loads(done.stdout), done.returncode)
    finally:
        checkout.run("script/lab", "down")
