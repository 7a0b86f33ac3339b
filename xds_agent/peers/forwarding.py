"""Requests of the API on a host that does not lead: carried to the leader, answered with its words."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable, Mapping
from typing import Any

from xds_agent.peers.follow import Follow, LeaderLost
from xds_agent.peers.member import Member
from xds_agent.proto import marchproxy_pb2 as pb

Asgi = Callable[..., Any]
_JSON = [(b"content-type", b"application/json")]
_NOBODY_LEADS = (
    "proxies serve what they have meanwhile; run it again when `xds-agent status` tells of no trouble"
)


class Forwarding:
    """An ASGI app in front of another one."""

    def __init__(self, app: Asgi, member: Member, follow: Follow, tenants: frozenset[str] | None) -> None:
        self._app = app
        self._member = member
        self._follow = follow
        self._tenants = tenants

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or self._member.leading:
            await self._app(scope, receive, send)
            return
        reads = scope["method"] == "GET"
        if not self._follow.linked:
            if reads:
                await self._app(scope, receive, send)
            else:
                await _refuse(send, f"{self._member.why_nobody_leads}; nothing was changed", _NOBODY_LEADS)
            return
        body = await _body(receive)
        try:
            answer = await self._follow.forward(self._request(scope, body))
            status, content = answer.status, answer.body
        except LeaderLost as error:
            if reads:
                await self._app(scope, _once(body), send)
                return
            await _refuse(
                send, str(error), "`xds-agent history` says how it ended; if it is not there, run it again"
            )
            return
        await _answer(send, status, content)

    def _request(self, scope: Mapping[str, Any], body: bytes) -> pb.ForwardRequest:
        return pb.ForwardRequest(
            method=scope["method"], path=scope["path"], query=scope.get("query_string", b""), body=body,
            user=unix_user(scope.get("state", {}).get("uid")), all_tenants=self._tenants is None,
            tenants=sorted(self._tenants or ()),
        )  # fmt: skip


def unix_user(uid: int | None) -> str:
    """Name of a user of this host; empty when nobody knows who asks."""
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


async def answered(app: Asgi, request: pb.ForwardRequest) -> pb.ForwardResponse:
    """The answer of an ASGI app to a request that another control host carried here."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method,
        "scheme": "http", "path": request.path, "raw_path": request.path.encode(), "root_path": "",
        "query_string": request.query, "headers": _JSON, "client": None, "server": None,
        "state": {"user": request.user},
    }  # fmt: skip
    said = pb.ForwardResponse()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said.status = message["status"]
        elif message["type"] == "http.response.body":
            said.body += message.get("body", b"")

    await app(scope, _once(request.body), send)
    return said


def _once(body: bytes) -> Callable[[], Any]:
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return parts.pop() if parts else {"type": "http.disconnect"}

    return receive


async def _refuse(send: Any, error: str, remedy: str) -> None:
    await _answer(send, 503, json.dumps({"error": error, "remedy": remedy}).encode())


async def _answer(send: Any, status: int, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _JSON})
    await send({"type": "http.response.body", "body": content})


async def _body(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
