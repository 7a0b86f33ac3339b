"""HTTP over the control agent's Unix socket, with the standard library only: this runs on the target.

Every failure is a ControlError whose words name the cause and what to do; never a traceback.
"""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
from pathlib import Path

from ansible_collections.marchproxy.edge.plugins.module_utils.fleet_text import diff_text, problems_text

_KINDS = {409: "refused", 403: "denied", 507: "full"}


class ControlError(Exception):
    """Control did not answer as wanted. `kind` is absent, denied, refused, problems, full or broken."""

    def __init__(self, words, kind="broken", answer=None):
        super().__init__(words)
        self.kind = kind
        self.answer = answer or {}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("control", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(path, method, target, body=None, timeout=90.0):
    """One request; the JSON of a 200. Raises ControlError otherwise."""
    connection = _Connection(path, timeout)
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, target, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        status, content = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        words, kind = _why(error, path, timeout)
        raise ControlError(words, kind) from error
    finally:
        connection.close()
    return _answer(status, content)


def _why(error, path, timeout):
    """(words, kind) for a connection that failed."""
    journal = "see: journalctl -u xds-agent-serve"
    if isinstance(error, FileNotFoundError):
        missing = f"{path} is not there: xds-agent serve does not run on this host yet"
        return f"{missing}; run site.yml --tags xds_agent, or {journal}", "absent"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody answers on {path}: xds-agent serve has stopped; {journal}", "absent"
    if isinstance(error, PermissionError):
        advice = f"add it to Unix group {_group(path)} on the control host, or run with become"
        return f"user {_user()} may not open {path}; {advice}", "denied"
    if isinstance(error, TimeoutError):
        advice = "`xds-agent status` on the control host shows what it does"
        return f"control did not answer within {timeout:.0f} s; {advice}", "broken"
    cause = str(error) or type(error).__name__
    # A change that control was at when it died is live as a whole, or not at all.
    advice = "nothing is half done: `xds-agent history -n 1` says whether a change is live; if not, run again"
    return f"the connection to {path} broke ({cause}); {advice}; {journal}", "broken"


def _answer(status, content):
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise ControlError(f"control answered {status} with no JSON: {content[:200]!r}") from error
    if status == 200:
        return answer
    if status == 422 and "problems" in answer:
        raise ControlError(problems_text(answer["problems"]), "problems", answer)
    words = str(answer.get("error") or answer.get("detail") or f"control answered {status}")
    if answer.get("remedy"):
        words = f"{words}; {answer['remedy']}"
    if answer.get("lines"):
        words = f"{words}\nwhat it would change:\n{diff_text(answer).rstrip()}"
    raise ControlError(words, _KINDS.get(status, "broken"), answer)


def _user():
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _group(path):
    try:
        return Path(path).group()
    except (OSError, KeyError):
        return "marchproxy"
