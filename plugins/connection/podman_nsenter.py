"""Connect to a container on this machine by entering its namespaces."""

from __future__ import annotations

DOCUMENTATION = r"""
name: podman_nsenter
short_description: Run tasks in a podman container of this machine through nsenter
author: MarchProxy
description:
  - Enters the namespaces of the container's first process. A command starts in about 10 ms, where starting
    one through the container engine takes 200 to 300 ms.
  - Needs root on the controller, and the commands C(nsenter) (package C(util-linux)) and C(podman).
  - Meant for the lab and for tests; tasks run as root of the container.
options:
  container:
    description: Name of the container, where it is not I(prefix) followed by the host's name.
    vars:
      - name: ansible_podman_container
  prefix:
    description:
      - What the containers' names start with, before the name of the host in the inventory.
      - Under C(delegate_to), templates in connection variables see the variables of the host that delegates.
        A prefix that is the same for all hosts is right for both.
    default: ''
    vars:
      - name: ansible_podman_prefix
  host:
    description:
      - Name of the host in the inventory. Under C(delegate_to), Ansible puts the other host's name into
        C(ansible_host), unless the inventory sets that itself; hosts of this connection better have none.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  podman_executable:
    description: The command that knows the containers.
    default: podman
    vars:
      - name: ansible_podman_executable
extends_documentation_fragment:
  - connection_pipelining
"""

import json
import shlex
import subprocess
from pathlib import Path

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase

NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# What a login of root finds; nothing of the controller's environment leaks into the host.
LOGIN = (
    "env",
    "-i",
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def started_at(pid: int) -> str | None:
    """Clock ticks from the machine's boot to the start of ``pid``; None if there is no such process."""
    try:
        # The second field is the command in parentheses, which may hold spaces; the 22nd is the start time.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


class Connection(ConnectionBase):
    """One container; ansible makes an object per task, so connecting must be cheap."""

    transport = "marchproxy.edge.podman_nsenter"
    has_pipelining = True

    def _connect(self) -> Connection:
        if not self._connected:
            self._container = self.get_option("container") or self.get_option("prefix") + self.get_option(
                "host"
            )
            self._enter = ["nsenter", "--target", str(self._pid()), *NAMESPACES, "--", *LOGIN]
            self._connected = True
        return self

    def _pid(self) -> int:
        """Process number of the container's systemd, remembered for the run.

        A process number together with its start time never means another process, so a container that was
        restarted or replaced between two tasks is noticed.
        """
        memory = Path(C.DEFAULT_LOCAL_TMP) / f"nsenter-{self._container}.json"
        try:
            pid, started = json.loads(memory.read_text())
            if started_at(pid) == started:
                return int(pid)
        except (OSError, ValueError):
            pass
        pid = self._ask_podman()
        # Written aside and renamed: workers of one run share the file.
        fresh = memory.with_suffix(f".{pid}")
        try:
            fresh.write_text(json.dumps([pid, started_at(pid)]))
            fresh.replace(memory)
        except OSError:
            self._display.debug(f"cannot remember the process of {self._container}")
        return pid

    def _ask_podman(self) -> int:
        podman = self.get_option("podman_executable")
        command = [
            podman,
            "container",
            "inspect",
            "--format",
            "{{.State.Pid}} {{.State.Status}}",
            self._container,
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise AnsibleConnectionFailure(f"{podman} is not installed (Debian package podman)") from None
        if done.returncode:
            raise AnsibleConnectionFailure(
                f"there is no container {self._container} ({done.stderr.strip()}); "
                "'script/lab up' makes the lab's hosts"
            )
        pid, _, status = done.stdout.strip().partition(" ")
        if pid == "0":
            raise AnsibleConnectionFailure(
                f"container {self._container} is not running (it is {status}); "
                "'script/lab up' starts the lab's hosts"
            )
        return int(pid)

    def _run(self, argv: list[str], data: bytes | None = None) -> tuple[int, bytes, bytes]:
        command = [to_bytes(part) for part in [*self._enter, *argv]]
        try:
            if data is None:
                done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
            else:
                done = subprocess.run(command, capture_output=True, check=False, input=data)
        except FileNotFoundError:
            raise AnsibleConnectionFailure("nsenter is not installed (Debian package util-linux)") from None
        if done.returncode == 1 and done.stderr.startswith(b"nsenter: "):
            raise AnsibleConnectionFailure(
                f"cannot enter container {self._container}: {to_text(done.stderr).strip()}; this needs root"
            )
        return done.returncode, done.stdout, done.stderr

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run ``cmd`` by the container's shell: exit code, output, error output."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller into the container."""
        super().put_file(in_path, out_path)
        source = Path(in_path)
        if not source.exists():
            raise AnsibleFileNotFound(f"there is no file {in_path} on the controller")
        with source.open("rb") as content:
            done = subprocess.run(
                [*self._enter, "/bin/sh", "-c", f"cat > {shlex.quote(out_path)}"],
                stdin=content,
                capture_output=True,
                check=False,
            )
        if done.returncode:
            raise AnsibleConnectionFailure(
                f"cannot write {out_path} on {self._container}: {to_text(done.stderr)}"
            )

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the container to the controller."""
        super().fetch_file(in_path, out_path)
        with Path(out_path).open("wb") as target:
            done = subprocess.run(
                [*self._enter, "cat", "--", in_path],
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.PIPE,
                check=False,
            )
        if done.returncode:
            raise AnsibleFileNotFound(f"cannot read {in_path} on {self._container}: {to_text(done.stderr)}")

    def reset(self) -> None:
        """Forget the container's process, as after a restart of the container."""
        self.close()
        self._connect()

    def close(self) -> None:
        """Nothing stays open between commands."""
        self._connected = False
