"""The REST API of control, served on Unix sockets; one app per socket, each speaking for its tenants."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from xds_agent.api.routes import Routes
from xds_agent.api.views import View
from xds_agent.compile import CompileError
from xds_agent.explain.request import BadUrl, UnknownProxy
from xds_agent.model import ModelError, Problem
from xds_agent.peers.forwarding import unix_user
from xds_agent.pki.issuer import IssueError
from xds_agent.rollout import denying
from xds_agent.rollout.change import Answer, Change, Conflict, NotEntitled
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.revoke import revoke
from xds_agent.steering.whatif import Suppose
from xds_agent.store import SealError, StoreError, StoreFull
from xds_agent.store.denials import Denial

Counted = Callable[[str], None]


class RevisionRequest(BaseModel):
    """Body of POST /v1/revisions."""

    model_config = ConfigDict(extra="forbid")

    document: dict[str, Any]
    author: str = ""
    reason: str = ""
    commit: str = ""
    dry_run: bool = False
    allow_removal: list[str] = []
    force: bool = False
    skip_bad: bool = False
    plan: str = ""
    # A dry run that only looks whether inventory and edge have parted; counted for the alert.
    drift: bool = False
    wait_s: float = Field(default=0.0, ge=0, le=3600)
    timeout_s: float = Field(default=60.0, gt=0, le=3600)


class RollbackRequest(BaseModel):
    """Body of POST /v1/rollback."""

    model_config = ConfigDict(extra="forbid")

    number: int
    author: str = ""
    reason: str = ""
    dry_run: bool = False
    allow_removal: list[str] = []
    force: bool = False
    skip_bad: bool = False
    wait_s: float = Field(default=0.0, ge=0, le=3600)
    timeout_s: float = Field(default=60.0, gt=0, le=3600)


class MaintenanceRequest(BaseModel):
    """Body of POST /v1/maintenance: what the inventory would say, and who asks."""

    model_config = ConfigDict(extra="forbid")

    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    host: str | None = None
    until: str
    reason: str
    allow_outage: list[str] = []
    author: str = ""


class MaintenanceEnd(BaseModel):
    """Body of POST /v1/maintenance/end."""

    model_config = ConfigDict(extra="forbid")

    name: str
    author: str = ""


class WhatIfRequest(BaseModel):
    """Body of POST /v1/what-if: prices in US dollars a gigabyte, additions to round trips, both by cloud."""

    model_config = ConfigDict(extra="forbid")

    cloud_down: str = ""
    prices: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    rtts_ms: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    service: str | None = None


class DenialRequest(BaseModel):
    """Body of POST /v1/denials; a `for_s` of 0 ends one before its time."""

    model_config = ConfigDict(extra="forbid")

    network: str
    for_s: float = Field(ge=0, le=30 * 86_400)
    author: str = ""
    reason: str = ""
    force: bool = False


class RevokeRequest(BaseModel):
    """Body of POST /v1/revoke."""

    model_config = ConfigDict(extra="forbid")

    host: str
    serials: list[str] = []
    author: str = ""
    reason: str = ""
    dry_run: bool = False


def create_app(
    pipeline: Pipeline, *, name: str, tenants: frozenset[str] | None = None,
    counted: Counted = lambda outcome: None, drifted: Callable[[int], None] = lambda lines: None,
    leaderless: Callable[[], str] = lambda: "",
) -> FastAPI:  # fmt: skip
    """App for one socket; `tenants` is for whom it speaks, None for all; `leaderless` why nobody leads."""
    app = FastAPI(title="MarchProxy control", docs_url=None, redoc_url=None)
    view = View(pipeline, name, tenants, leaderless)
    _refusals(app, counted)

    @app.post("/v1/revisions")
    async def post_revision(body: RevisionRequest, request: Request) -> dict[str, Any]:
        change = Change(
            document=body.document, author=_author(body.author, request), reason=body.reason,
            commit=body.commit, dry_run=body.dry_run, allow_removal=tuple(body.allow_removal),
            timeout_s=body.timeout_s, force=body.force, skip_bad=body.skip_bad, plan=body.plan,
            wait_s=body.wait_s, tenants=tenants,
        )  # fmt: skip
        looks = body.dry_run and body.drift
        try:
            answer = await pipeline.apply(change)
        except Conflict:
            # A host that is gone from the inventory, say: it needs a word before it goes, and has parted.
            if looks:
                drifted(1)
            raise
        if looks:
            drifted(len(answer.lines))
        return _told(answer, counted)

    @app.post("/v1/rollback")
    async def post_rollback(body: RollbackRequest, request: Request) -> dict[str, Any]:
        change = Change(
            document={}, author=_author(body.author, request), reason=body.reason, dry_run=body.dry_run,
            timeout_s=body.timeout_s, force=body.force, skip_bad=body.skip_bad, wait_s=body.wait_s,
            tenants=tenants,
        )  # fmt: skip
        answer = await pipeline.rollback(body.number, change)
        if answer.outcome == "live":
            counted("rolled-back")
        return _told(answer, counted)

    @app.post("/v1/revoke")
    async def post_revoke(body: RevokeRequest, request: Request) -> dict[str, Any]:
        if tenants is not None:
            raise NotEntitled("hosts belong to the whole site", "use the socket of all tenants")
        return await revoke(
            pipeline, body.host, serials=body.serials, author=_author(body.author, request),
            reason=body.reason, dry_run=body.dry_run,
        )  # fmt: skip

    @app.post("/v1/denials")
    async def post_denial(body: DenialRequest, request: Request) -> dict[str, Any]:
        if tenants is not None:
            raise NotEntitled("the packet filter is of the whole site", "use the socket of all tenants")
        author = _author(body.author, request)
        if not body.for_s:
            return {"lifted": await denying.lift(pipeline, body.network, author)}
        until = pipeline.now() + dt.timedelta(seconds=body.for_s)
        denial = Denial(body.network, until, author, body.reason)
        denied, before = await denying.deny(pipeline, denial, force=body.force)
        return {
            "denied": denied,
            "until": until.isoformat(timespec="seconds"),
            "was_until": before.until.isoformat(timespec="seconds") if before is not None else None,
        }

    @app.get("/v1/denials")
    async def get_denials() -> dict[str, Any]:
        return {"denials": await denying.listed(pipeline)}

    @app.get("/v1/status")
    async def get_status() -> dict[str, Any]:
        return await view.status()

    @app.get("/v1/live")
    async def get_live() -> dict[str, Any]:
        return view.live()

    @app.get("/v1/nodes/{name}")
    async def get_node(name: str) -> dict[str, Any]:
        return await view.node(name)

    @app.get("/v1/nodes/{name}/diff")
    async def get_node_diff(name: str) -> dict[str, Any]:
        return await view.diff(name)

    @app.get("/v1/history")
    async def get_history(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50, before: int | None = None
    ) -> dict[str, Any]:
        return {"revisions": await view.history(limit, before)}

    @app.get("/v1/revisions/{number}")
    async def get_revision(number: int) -> dict[str, Any]:
        found = await view.revision(number)
        if found is None:
            raise HTTPException(404, f"there is no revision {number}; `xds-agent history` lists them")
        return found

    @app.get("/v1/explain")
    async def get_explain(
        url: str, host: str | None = None, method: str = "GET", client_certificate: bool = False,
        header: Annotated[list[str] | None, Query()] = None,
    ) -> dict[str, Any]:  # fmt: skip
        headers = dict(_split(one) for one in header or [])
        return await view.explain(
            url, host=host, method=method, headers=headers, client_certificate=client_certificate
        )

    @app.get("/v1/maintenance")
    async def get_maintenance() -> dict[str, Any]:
        return _windows(pipeline)

    @app.post("/v1/maintenance")
    async def post_maintenance(body: MaintenanceRequest, request: Request) -> dict[str, Any]:
        _for_all(tenants)
        given = body.model_dump(exclude={"author"}, exclude_none=True)
        await pipeline.windows.open(given, _author(body.author, request))
        return _windows(pipeline)

    @app.post("/v1/maintenance/end")
    async def post_maintenance_end(body: MaintenanceEnd, request: Request) -> dict[str, Any]:
        _for_all(tenants)
        await pipeline.windows.close(body.name, _author(body.author, request))
        return _windows(pipeline)

    @app.get("/v1/routes")
    async def get_routes(service: str | None = None) -> dict[str, Any]:
        return _routes(pipeline, tenants).table(service)

    @app.post("/v1/what-if")
    async def post_what_if(body: WhatIfRequest) -> dict[str, Any]:
        suppose = Suppose(
            down=frozenset({body.cloud_down} if body.cloud_down else ()), usd_per_gb=body.prices,
            more_ms=body.rtts_ms,
        )  # fmt: skip
        return await asyncio.to_thread(_routes(pipeline, tenants).what_if, suppose, body.service)

    @app.get("/v1/audit")
    async def get_audit(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
        if tenants is not None:
            raise NotEntitled("the audit is for all tenants", "use the socket of all tenants")
        return await view.audit(limit)

    return app


def create_open_app(pipeline: Pipeline, metrics: Callable[[], bytes]) -> FastAPI:
    """What anyone may read over TCP: /healthz and /metrics, nothing else."""
    from fastapi.responses import Response

    app = FastAPI(title="MarchProxy control", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        live = pipeline.live
        healthy = not pipeline.trouble
        content = {"status": "ok" if healthy else "trouble", "revision": live.number if live else None}
        return JSONResponse(content, status_code=200 if healthy else 503)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _for_all(tenants: frozenset[str] | None) -> None:
    if tenants is not None:
        raise NotEntitled("maintenance touches all tenants", "use the socket of all tenants")


def _windows(pipeline: Pipeline) -> dict[str, Any]:
    named = pipeline.windows.named
    return {
        "windows": [
            {"name": name, "until": one.until.isoformat(), "reason": one.reason}
            for name, one in sorted(named.items())
        ]
    }


def _routes(pipeline: Pipeline, tenants: frozenset[str] | None) -> Routes:
    if pipeline.steerer is None:
        raise Conflict("this control host does not steer", "ask the one that leads")
    return Routes(pipeline.steerer, tenants)


def _told(answer: Answer, counted: Counted) -> dict[str, Any]:
    counted(answer.outcome)
    return answer.as_dict()


def _author(claimed: str, request: Request) -> str:
    """Who asks: what the controller says, and the Unix user the kernel says, here or where it came in."""
    user = getattr(request.state, "user", "") or unix_user(getattr(request.state, "uid", None))
    if not user:
        return claimed or "unknown"
    return f"{claimed} (as {user})" if claimed else user


def _split(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name.strip().lower(), value.strip()


def _refusals(app: FastAPI, counted: Counted) -> None:
    """Errors as JSON with words and a remedy; never a body echoed back, since it may hold secrets."""
    Handler = Callable[[Request, Any], Awaitable[JSONResponse]]

    def answering(status: int, content: Callable[[Any], dict[str, Any]], outcome: str) -> Handler:
        async def handle(_request: Request, error: Any) -> JSONResponse:
            counted(outcome)
            return JSONResponse(content(error), status_code=status or error.status_code)

        return handle

    def problems(error: Any) -> dict[str, Any]:
        return {"problems": [_problem(one) for one in error.problems]}

    def words_and_remedy(error: Any) -> dict[str, Any]:
        return {"error": error.error, "remedy": error.remedy}

    def conflict(error: Any) -> dict[str, Any]:
        return words_and_remedy(error) | ({"lines": list(error.lines)} if error.lines else {})

    def bad_request(error: RequestValidationError) -> dict[str, Any]:
        found = [
            {
                "path": ".".join(str(part) for part in one["loc"]),
                "message": one["msg"],
                "fix": "",
                "origin": None,
            }
            for one in error.errors()
        ]
        return {"problems": [{**one, "text": f"{one['path']}: {one['message']}"} for one in found]}

    table: list[tuple[type[Exception], int, Callable[[Any], dict[str, Any]], str]] = [
        (ModelError, 422, problems, "invalid"),
        (CompileError, 422, problems, "invalid"),
        (RequestValidationError, 422, bad_request, "invalid"),
        (Conflict, 409, conflict, "conflict"),
        (NotEntitled, 403, words_and_remedy, "not-entitled"),
        (StoreFull, 507, lambda error: {"error": str(error)}, "disk-full"),
        (StoreError, 500, lambda error: {"error": str(error)}, "store-error"),
        (SealError, 500, lambda error: {"error": str(error)}, "store-error"),
        (IssueError, 409, lambda error: {"error": str(error)}, "conflict"),
        (BadUrl, 400, lambda error: {"error": str(error)}, "bad-question"),
        (UnknownProxy, 400, lambda error: {"error": str(error)}, "bad-question"),
        (StarletteHTTPException, 0, lambda error: {"error": str(error.detail)}, "not-found"),
    ]
    for kind, status, content, outcome in table:
        app.add_exception_handler(kind, answering(status, content, outcome))


def _problem(one: Problem) -> dict[str, Any]:
    return one.as_dict()
