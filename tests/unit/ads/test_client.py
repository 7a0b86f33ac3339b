"""The way to control: addresses in order, waiting only after a whole round failed."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from tests.support.processes import until
from xds_agent.ads.client import BACK_OFF_MOST_S, Target, Upstream
from xds_agent.ads.credentials import channel_credentials, server_credentials

TARGETS = [Target("127.0.0.1:1", "control1"), Target("127.0.0.1:2", "control2")]


def upstream(session, credentials, targets=TARGETS):
    return Upstream(targets, credentials, session, rng=random.Random(7))


@pytest.fixture
def credentials(shared_pki):
    files = shared_pki.host("edge1")
    return lambda: channel_credentials(files.certificate, files.key, files.ca)


@pytest.fixture
async def control_like(shared_pki):
    """Address of an mTLS server that knows no method: every stream on it ends at once."""
    files = shared_pki.host("control1")
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, files.ca))
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def test_waiting_grows_is_jittered_and_bounded(credentials):
    client = upstream(None, credentials)
    waits = [client.back_off_s(rounds) for rounds in range(12)]
    assert all(0.05 * 2**n <= wait <= 0.1 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(BACK_OFF_MOST_S / 2 <= wait <= BACK_OFF_MOST_S for wait in waits[8:])
    assert len({client.back_off_s(3) for _ in range(10)}) == 10


async def test_each_address_is_tried_in_order_and_the_reason_kept(credentials):
    tried = []

    async def session(channel, target):
        tried.append(target.name)
        call = channel.stream_stream("/a/B")()
        await call.write(b"x")
        await call.read()
        raise grpc.aio.AioRpcError(await call.code(), None, None, await call.details())

    client = upstream(session, credentials)
    task = asyncio.create_task(client.run())
    await until(lambda: len(tried) >= 4)
    task.cancel()
    assert tried[:4] == ["control1", "control2", "control1", "control2"]
    assert "UNAVAILABLE" in client.last_error


async def test_unreadable_certificates_are_said_and_tried_again(shared_pki):
    def gone():
        raise FileNotFoundError(2, "No such file", "/etc/host.crt")

    client = upstream(None, gone)
    task = asyncio.create_task(client.run())
    await until(lambda: bool(client.last_error))
    task.cancel()
    assert "certificate cannot be read" in client.last_error


async def test_a_stream_that_ends_between_two_writes_is_one_more_failed_attempt(control_like, credentials):
    came = []

    async def session(channel, target):
        came.append(target.name)
        call = channel.stream_stream("/a/B")()
        await call.write(b"one")
        await call.code()
        await call.write(b"two")

    client = upstream(session, credentials, [Target(control_like, "control1")])
    task = asyncio.create_task(client.run())
    await until(lambda: len(came) >= 2 or task.done())
    assert not task.done()
    task.cancel()
    assert "ended" in client.last_error
