"""A client of control's API over its Unix socket: one clear error for each failure."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from xds_agent.cli.errors import FAILED, UNREACHABLE, CliError

SOCKET = Path("/run/marchproxy/control.sock")
# Compiling 10,000 services and writing them takes seconds; anything beyond is a hang.
ANSWER_S = 120.0


class ProblemsFound(CliError):
    """Control found problems in the document; `.problems` are the dictionaries of its answer."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the inventory")
        self.problems = problems


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("control", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Control:
    """Control on this host. Every method raises CliError (UNREACHABLE when nobody answers)."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path

    def get(self, target: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object at `target`; list values of the query are repeated, None is left out."""
        given = [(k, v) for k, v in (query or {}).items() if v is not None and v != []]
        return self._ask("GET", target + (f"?{urlencode(given, doseq=True)}" if given else ""), None)

    def post(self, target: str, body: Mapping[str, Any], *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Send an object, return the answer's."""
        return self._ask("POST", target, json.dumps(body).encode(), timeout_s)

    def _ask(
        self, method: str, target: str, body: bytes | None, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        connection = _UnixConnection(self._path, timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            words = f"control did not answer within {timeout_s:.0f} s"
            raise CliError(words, "see: journalctl -u xds-agent-serve", UNREACHABLE) from error
        except OSError as error:
            raise self._unreachable(error) from error
        except http.client.HTTPException as error:
            words = f"what answers on {self._path} does not speak HTTP ({error!r})"
            raise CliError(words, "name control's socket with --socket", UNREACHABLE) from error
        finally:
            connection.close()
        return self._answer(status, content)

    def _unreachable(self, error: OSError) -> CliError:
        if isinstance(error, FileNotFoundError):
            return CliError(
                f"there is no socket {self._path}",
                "run this on a control host where xds-agent serve runs (systemctl status xds-agent-serve), "
                "or name its socket with --socket",
                UNREACHABLE,
            )
        if isinstance(error, PermissionError):
            return CliError(
                f"user {_user()} may not open {self._path}",
                f"join Unix group {_group(self._path)} (sudo usermod -aG {_group(self._path)} {_user()}, "
                "then log in again), or use sudo",
                UNREACHABLE,
            )
        if isinstance(error, ConnectionRefusedError):
            words = f"nobody answers on {self._path}: xds-agent serve has stopped"
            return CliError(words, "see: journalctl -u xds-agent-serve -n 50", UNREACHABLE)
        words = f"the connection to {self._path} broke: {error.strerror or error}"
        return CliError(words, "xds-agent serve may have been restarted; run this again", UNREACHABLE)

    def _answer(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        if status == 200:
            return answer
        if isinstance(answer.get("problems"), list):
            raise ProblemsFound(answer["problems"])
        words = answer.get("error") or answer.get("detail")
        if not isinstance(words, str):
            words = f"control answered {status}: {content[:200].decode(errors='replace')}"
        raise CliError(words, str(answer.get("remedy") or ""), FAILED)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _group(path: Path) -> str:
    import grp

    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "marchproxy"
