#!/opt/marchproxy/agent/bin/python
"""What `systemctl reload envoy` does: have the next Envoy take over from the running one, or say why not.

    hot-restart reload SUPERVISOR_PID ENVOY BOOTSTRAP ADMIN_SOCKET HEALTH_URL DRAIN_S
    hot-restart await ADMIN_SOCKET

Refused while the node agent has no configuration: the next Envoy would take the sockets over with nothing to
serve. `await` returns once a fresh Envoy answers at all, so that a start that fails at once is a failed one.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

START_S = 60.0
ANSWER_S = 2.0
# The signal is sent again when nothing came of it: a shell may miss one between two commands.
AGAIN_S = 3.0
# Beyond the drain time, for the old Envoy's own end.
DRAIN_SPARE_S = 10.0
NOTHING_TO_SERVE = "no revision"


class Refused(Exception):
    """No hot restart; the words say why."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def server(admin: str) -> tuple[int, str] | None:
    """Restart epoch and state of the Envoy that answers on the admin socket; None where none does."""
    connection = _UnixConnection(admin)
    try:
        connection.request("GET", "/server_info")
        info = json.loads(connection.getresponse().read())
        return int(info["command_line_options"].get("restart_epoch", 0)), str(info["state"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()


def agent_words(url: str) -> str:
    """What the node agent's health says; raises Refused where it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        raise Refused(
            f"the node agent does not answer ({error}): the next Envoy would have nothing to serve"
        ) from error


def epochs(supervisor: int) -> set[int]:
    """Restart epochs of the Envoys that run under the supervisor."""
    children = subprocess.run(
        ["ps", "--ppid", str(supervisor), "-o", "args="], capture_output=True, text=True, check=False
    ).stdout
    return {int(epoch) for epoch in re.findall(r"--restart-epoch (\d+)", children)}


def reload(supervisor: int, envoy: str, bootstrap: str, admin: str, health: str, drain_s: float) -> None:
    """Start the next epoch and wait until it serves. Raises Refused."""
    words = agent_words(health)
    if NOTHING_TO_SERVE in words:
        raise Refused(f"the node agent has no configuration yet ({words.strip()})")
    checked = subprocess.run(
        [envoy, "--mode", "validate", "--use-dynamic-base-id", "--log-level", "error", "-c", bootstrap],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if checked.returncode:
        raise Refused(f"Envoy refuses {bootstrap}: {checked.stderr.strip()[-500:]}")
    await_drained(supervisor, drain_s)
    now = server(admin)
    if now is None:
        raise Refused(
            "the running Envoy does not answer on its admin socket; `systemctl restart envoy` starts afresh"
        )
    take_over(supervisor, admin, now[0] + 1)


def await_drained(supervisor: int, drain_s: float) -> None:
    """Wait for the Envoy before the running one to end: a third one would cut its connections off."""
    deadline = time.monotonic() + drain_s + DRAIN_SPARE_S
    while len(epochs(supervisor)) > 1:
        if time.monotonic() > deadline:
            raise Refused("the Envoy before the running one still drains")
        time.sleep(0.2)


def take_over(supervisor: int, admin: str, wanted: int) -> None:
    """Signal the supervisor until epoch `wanted` runs, and wait until it is LIVE. Raises Refused."""
    deadline, again, seen = time.monotonic() + START_S, 0.0, False
    while time.monotonic() < deadline:
        if server(admin) == (wanted, "LIVE"):
            return
        running = wanted in epochs(supervisor)
        if seen and not running:
            # Envoy's shared memory now says for ever that a process is starting: none can follow.
            raise Refused(
                f"epoch {wanted} ended while it started (journalctl --unit envoy says why); the one before "
                "serves on, but cannot be followed any more: `systemctl restart envoy` when that suits"
            )
        seen = seen or running
        if not running and time.monotonic() >= again:
            os.kill(supervisor, signal.SIGHUP)
            again = time.monotonic() + AGAIN_S
        time.sleep(0.05)
    raise Refused(f"epoch {wanted} was not LIVE within {START_S:.0f} s; see journalctl --unit envoy")


def await_answer(admin: str) -> None:
    """Return once an Envoy answers; systemd ends the wait when the process is gone."""
    deadline = time.monotonic() + START_S
    while server(admin) is None:
        if time.monotonic() > deadline:
            raise Refused(f"Envoy did not answer on {admin} within {START_S:.0f} s")
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["reload", supervisor, envoy, bootstrap, admin, health, drain_s]:
                reload(int(supervisor), envoy, bootstrap, admin, health, float(drain_s))
            case ["await", admin]:
                await_answer(admin)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Refused as refusal:
        print(f"hot restart refused: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
