"""The hosts of molecule's scenario `fleet`, as their operator has them: playbooks, commands, control's API.

Requests go through every proxy from this machine, as from any client; none of them may be lost.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from lab import place

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "molecule" / "fleet" / "inventory"
OVERLAY = INVENTORY / "edge" / "overlays" / "verify.yml"
NAME = "shop.example.com"
CONTROL, EDGES = ("control1", "control2"), ("edge1", "edge2")
_SOCKET = "run/marchproxy/control.sock"
_PAUSE_S = 0.1
_ANSWER_S = 20.0


def eventually(holds: Callable[[], Any], what: str, patience_s: float = 90.0) -> Any:
    """What `holds` gives as soon as it is true; errors of hosts that are away count as not yet."""
    end = time.monotonic() + patience_s
    while True:
        found: Any = None
        with contextlib.suppress(httpx.HTTPError, OSError, subprocess.CalledProcessError):
            found = holds()
        if found:
            return found
        assert time.monotonic() < end, f"not within {patience_s:g} s: {what}"
        time.sleep(0.1)


class FleetHosts:
    """Two control hosts, their database, two proxies."""

    def __init__(self) -> None:
        self.place = place.load(INVENTORY / "hosts.yml")
        self.address = {host.name: host.address for host in self.place.hosts}
        self._pids: dict[str, str] = {}

    # --- as an operator

    def command(self, playbook: str, *words: str) -> list[str]:
        return [str(ROOT / ".venv/bin/ansible-playbook"), playbook, "-i", f"{INVENTORY}/", *words]

    @property
    def environment(self) -> dict[str, str]:
        """Of a shell in the checkout: ansible.cfg is found there."""
        ours = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "USER": "operator"}
        ours["CONTAINERS_CONF"] = str(ROOT / "containers.conf")
        return {key: value for key, value in os.environ.items() if key != "ANSIBLE_CONFIG"} | ours

    def start(self, playbook: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(playbook, *words), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def playbook(self, playbook: str, *words: str, code: int | None = 0) -> str:
        """What it said; it must end with `code` (None: whatever)."""
        running = self.start(playbook, *words)
        said, _ = running.communicate()
        assert code is None or running.returncode == code, (
            f"{playbook} gave {running.returncode}\n{said[-9000:]}"
        )
        return said

    def on(self, host: str, *command: str) -> str:
        """Run a command on a host; its output. Raises CalledProcessError."""
        done = subprocess.run(
            ["podman", "exec", self.place.host(host).container, *command],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    @contextlib.contextmanager
    def off(self, host: str) -> Iterator[None]:
        """Without power, with no goodbye, for as long as the block runs."""
        container = self.place.host(host).container
        subprocess.run(["podman", "kill", container], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["podman", "start", container], check=True, capture_output=True)

    @contextlib.contextmanager
    def edited(self, timeout_s: int, soak_s: int = 3) -> Iterator[None]:
        """The inventory with another timeout of the service, for as long as the block runs."""
        OVERLAY.parent.mkdir(parents=True, exist_ok=True)
        rollout = f'rollout: {{waves: [1, "100%"], soak: {soak_s}s}}'
        OVERLAY.write_text(f"services:\n  - {{name: shop, timeout: {timeout_s}s}}\n{rollout}\n")
        try:
            yield
        finally:
            OVERLAY.unlink()

    # --- what control says

    def get(self, host: str, target: str) -> Any:
        """JSON of control's API on that host. Raises httpx.HTTPError or OSError while it is away."""
        transport = httpx.HTTPTransport(uds=f"/proc/{self._pid(host)}/root/{_SOCKET}")
        try:
            with httpx.Client(transport=transport, base_url="http://control", timeout=60) as client:
                return client.get(target).raise_for_status().json()
        except (httpx.HTTPError, OSError):
            # Rebooted, perhaps.
            self._pids.pop(host, None)
            raise

    def _pid(self, host: str) -> str:
        """Of its first process. Asked for once: podman keeps whoever asks waiting while hosts are made."""
        if host not in self._pids:
            self._pids[host] = subprocess.run(
                ["podman", "inspect", "--format", "{{.State.Pid}}", self.place.host(host).container],
                capture_output=True, text=True, check=True,
            ).stdout.strip()  # fmt: skip
        return self._pids[host]

    def status(self, host: str = "control1") -> dict[str, Any]:
        found: dict[str, Any] = self.get(host, "/v1/status")
        return found

    def history(self, host: str = "control1") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(host, "/v1/history?limit=50")["revisions"]
        return found

    def metrics(self, host: str) -> str:
        with contextlib.closing(http.client.HTTPConnection(self.address[host], 8000, timeout=20)) as asked:
            asked.request("GET", "/metrics")
            return asked.getresponse().read().decode()

    def leads(self, host: str) -> bool:
        return re.search(r"^marchproxy_leading 1", self.metrics(host), re.M) is not None

    def leader(self) -> str:
        return str(
            eventually(
                lambda: next((name for name in CONTROL if self.leads(name)), ""), "a control host leads"
            )
        )

    def settled(self, host: str = "control1", without: tuple[str, ...] = ()) -> dict[str, Any]:
        """Control's status once somebody leads and every proxy has what it should."""

        def there() -> dict[str, Any] | None:
            seen = self.status(host)
            nodes = {name: one for name, one in seen["nodes"].items() if name not in without}
            well = nodes and all(one["state"] == "active" for one in nodes.values())
            return seen if well and not seen["trouble"] and not seen["applying"] else None

        found: dict[str, Any] = eventually(there, "every proxy has what it should")
        return found

    # --- requests

    @contextlib.contextmanager
    def requests(self) -> Iterator[None]:
        """Requests through every proxy; none may be lost in it."""
        clients = [_Client(self.address[name], kept) for name in EDGES for kept in (False, True)]
        for client in clients:
            client.start()
        try:
            for client in clients:
                eventually(lambda one=client: one.answered or one.lost, "the first answer")
            yield
        finally:
            for client in clients:
                client.stopping.set()
            for client in clients:
                client.join()
        lost = {(one.address, one.kept): one.lost for one in clients if one.lost}
        assert not lost, f"{lost} of {sum(one.answered for one in clients)}"
        assert all(one.answered for one in clients)


class _Client(threading.Thread):
    """One request after the other, on a connection each or (`kept`) on one as long as it may."""

    def __init__(self, address: str, kept: bool) -> None:
        super().__init__(daemon=True)
        self.address, self.kept = address, kept
        self.answered = 0
        self.lost: list[str] = []
        self.stopping = threading.Event()
        self._tls = ssl.create_default_context(cafile=str(ROOT / ".lab/fleet/pki/root.crt"))
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not self.stopping.wait(_PAUSE_S):
            try:
                self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{time.strftime('%H:%M:%S')} {error!r}")
                self._close()
                time.sleep(1)
        self._close()

    def _ask(self) -> None:
        if self._connection is None:
            plain = socket.create_connection((self.address, 443), _ANSWER_S)
            self._connection = http.client.HTTPConnection(self.address, 443, timeout=_ANSWER_S)
            self._connection.sock = self._tls.wrap_socket(plain, server_hostname=NAME)
        self._connection.request("GET", "/", headers={"Host": NAME})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"answered {answer.status}")
        self.answered += 1
        # Whoever drains asks its clients to come again on another connection; this one does.
        if not self.kept or answer.will_close:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
