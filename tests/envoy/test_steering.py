"""Steering on real traffic: measured by a real node agent, decided by control, acted on by a real Envoy."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import Backend, Node
from tests.support.serve_process import ServeProcess
from tests.support.site_pki import SitePki

pytestmark = pytest.mark.envoy

PATIENCE_S = 120.0
STEERING = {
    "order": ["aws", "gcp"], "hold": "1s", "max_shift": 100, "failback": {"after": "1s", "ramp": "2s"},
}  # fmt: skip


@pytest.fixture
async def serve(tmp_path: Path, pki: SitePki) -> AsyncIterator[ServeProcess]:
    with tempfile.TemporaryDirectory(prefix="mpc-") as short:
        process = ServeProcess(tmp_path / "control", pki, Path(short) / "c.sock", (free_port(), free_port()))
        await asyncio.to_thread(process.start)
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
async def edge(serve: ServeProcess, pki: SitePki, tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path / "edge1", pki, "edge1", [f"127.0.0.1:{serve.grpc_port}"])
    await node.start()
    try:
        yield node
    finally:
        await node.close()


def document(ports: dict[str, int], backends: list[Backend], **steering: Any) -> dict[str, Any]:
    """One proxy in aws; the first backend stands there too, the second in gcp."""
    places = ({"cloud": "aws", "region": "us-east-1"}, {"cloud": "gcp", "region": "us-central1"})
    return {
        "schema": 1, "origins": {},
        "edge": {
            "ports": {"http": ports["http"], "https": ports["https"], "grpc": ports["grpc"]},
            "services": [
                {
                    "name": "shop",
                    "protocol": "tcp",
                    "listen": {"port": ports["tcp"]},
                    "endpoints": [
                        {"address": "127.0.0.1", "port": one.port, **place}
                        for one, place in zip(backends, places, strict=True)
                    ],
                    "health": {"type": "tcp", "interval": "1s", "timeout": "500ms"},
                    "steering": {**STEERING, **steering},
                }
            ],
        },
        "hosts": {"edge1": {"address": "127.0.0.1", "groups": ["ingress"], **places[0]}},
    }  # fmt: skip


async def answered(port: int, number: int) -> Counter[str]:
    """Names of the backends that answered so many requests; what failed has the name of its error."""
    met: Counter[str] = Counter()
    for _ in range(number):
        try:
            met[await said(port)] += 1
        except (OSError, EOFError) as error:
            met[type(error).__name__] += 1
    return met


async def said(port: int) -> str:
    """What a backend answers through the proxy, over a connection of its own."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return (await reader.readexactly(size)).decode()
        finally:
            writer.close()


async def until(serve: ServeProcess, wanted: dict[str, int]) -> dict[str, Any]:
    """Until the decision gives these clouds these weights of priority 0; the row of `routes`."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows = (await asyncio.to_thread(serve.get, "/v1/routes")).json().get("routes", [])
            found = {row["cloud"]: row["weight"] for row in rows if row["priority"] == 0}
            if found == wanted:
                return {row["cloud"]: row for row in rows}
            await asyncio.sleep(0.1)


async def test_a_cloud_that_dies_loses_its_place_and_gets_it_back(
    serve: ServeProcess, edge: Node, backends: list[Backend]
) -> None:
    ports = {name: free_port() for name in ("http", "https", "grpc", "tcp")}
    site = document(ports, backends)
    await serve.until_active(site, "edge1")
    await edge.envoy.live()
    rows = await until(serve, {"aws": 10_000})
    assert rows["gcp"]["priority"] == 1
    assert await answered(ports["tcp"], 20) == {"one": 20}

    dead = backends[0].port
    await backends[0].stop()
    rows = await until(serve, {"gcp": 10_000})
    assert "number 2 of the order" in rows["gcp"]["why"]
    assert "down, 0 % of it is well" in rows["aws"]["why"]
    assert rows["aws"]["priority"] == 1
    assert await answered(ports["tcp"], 20) == {"two": 20}

    # It comes back by itself, little by little, and control that was killed meanwhile goes on where it was.
    serve.kill()
    assert await answered(ports["tcp"], 20) == {"two": 20}
    await asyncio.to_thread(serve.start)
    await until(serve, {"gcp": 10_000})
    again = Backend("one")
    await again.start(dead)
    try:
        await until(serve, {"aws": 10_000})
        assert await answered(ports["tcp"], 20) == {"one": 20}
    finally:
        await again.stop()
    told = serve.get("/v1/audit").json()["rows"]
    reasons = [row["detail"] for row in told if row["action"] == "placement.changed"]
    assert any("down, 0 % of it is well" in one or "number 2 of the order" in one for one in reasons)


async def test_shares_are_what_was_decided_as_counted_at_the_backends(
    serve: ServeProcess, edge: Node, backends: list[Backend]
) -> None:
    ports = {name: free_port() for name in ("http", "https", "grpc", "tcp")}
    site = document(ports, backends, mode="active-active", weights={"aws": 3, "gcp": 1})
    await serve.until_active(site, "edge1")
    await edge.envoy.live()
    await until(serve, {"aws": 7_500, "gcp": 2_500})
    met = await answered(ports["tcp"], 400)
    assert set(met) == {"one", "two"}
    # 400 draws of one in four: five standard deviations are 43.
    assert abs(met["two"] - 100) <= 43
    asked = {"cloud_down": "aws"}
    predicted = serve.post("/v1/what-if", asked).json()["routes"]
    assert {row["cloud"]: row["share"] for row in predicted if row["share"]} == {"gcp": 1.0}


async def test_more_probes_than_the_budget_are_refused_with_the_arithmetic(serve: ServeProcess) -> None:
    ports = {name: free_port() for name in ("http", "https", "grpc", "tcp")}
    named = [Backend("one"), Backend("two")]
    for at, one in enumerate(named):
        one.port = 9000 + at
    site = document(ports, named)
    site["edge"]["limits"] = {"probes_per_second": 1}
    refused = await serve.apply(site)
    assert refused.status_code == 422
    [problem] = refused.json()["problems"]
    assert "edge1 would have to make 2 tcp every 1 s (2.0) = 2.0 probes a second" in problem["message"]
    assert problem["path"] == "limits.probes_per_second"


async def test_a_drained_cloud_gets_nothing_and_comes_back(
    serve: ServeProcess, edge: Node, backends: list[Backend]
) -> None:
    ports = {name: free_port() for name in ("http", "https", "grpc", "tcp")}
    await serve.until_active(document(ports, backends), "edge1")
    await edge.envoy.live()
    await until(serve, {"aws": 10_000})
    window = {"cloud": "aws", "until": "2126-01-01T00:00Z", "reason": "CHG-1"}

    async def post(path: str, body: dict[str, Any]) -> Any:
        return await asyncio.to_thread(serve.post, path, body)

    assert (await post("/v1/maintenance", window)).json()["windows"][0]["name"] == "cloud=aws"
    assert await answered(ports["tcp"], 20) == {"two": 20}
    rows = await until(serve, {"gcp": 10_000})
    assert "in maintenance" in rows["aws"]["health"]
    refused = await post("/v1/maintenance", {**window, "cloud": "gcp"})
    assert refused.status_code == 409
    assert "service shop would have no endpoint left" in refused.json()["error"]
    unknown = await post("/v1/maintenance", {**window, "cloud": "gpc"})
    assert "no endpoint stands in cloud=gpc" in unknown.json()["error"]
    assert (await post("/v1/maintenance/end", {"name": "cloud=aws"})).json() == {"windows": []}
    await until(serve, {"aws": 10_000})
    assert await answered(ports["tcp"], 20) == {"one": 20}
