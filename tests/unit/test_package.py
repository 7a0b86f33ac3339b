"""What importing the package does to the process."""

from __future__ import annotations

import os
import subprocess
import sys


def test_forks_meet_no_handlers_of_grpc() -> None:
    """They crash in the child now and then, before Envoy is executed."""
    clean = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    program = "import xds_agent.ads.server, os; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "false"
