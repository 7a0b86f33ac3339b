"""A node agent without an Envoy: gRPC over mTLS and the real Assembly; it acknowledges what it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpc

from tests.support.fake_fleet import Decision, Refuse
from tests.support.site_pki import HostFiles, SitePki
from xds_agent.ads.client import DELTA_METHOD, Target, open_channel
from xds_agent.ads.credentials import channel_credentials
from xds_agent.protocol.assembly import Assembly, Complete
from xds_agent.snapshot.resource import EMPTY

RETRY_S = 0.5


@dataclass
class GrpcNode:
    """Connects again and again until `close`."""

    name: str
    address: str
    files: HostFiles
    decide: Decision = lambda complete: None
    control: str = "control1"
    received: list[Complete] = field(default_factory=list)
    last_error: str = ""

    def __post_init__(self) -> None:
        self.assembly = Assembly(EMPTY, self.name)
        self._news = asyncio.Event()
        self._call: grpc.aio.StreamStreamCall | None = None
        self._task = asyncio.create_task(self._run(), name=f"node {self.name}")

    @classmethod
    def start(cls, pki: SitePki, name: str, port: int, decide: Decision = lambda complete: None) -> GrpcNode:
        return cls(name, f"127.0.0.1:{port}", pki.host(name), decide)

    @property
    def holds(self) -> str:
        return self.assembly.held.revision

    async def until_holding(self, revision: str, patience_s: float = 20.0) -> None:
        async with asyncio.timeout(patience_s):
            while self.holds != revision:
                self._news.clear()
                await self._news.wait()

    async def ask_again(self) -> None:
        """As the agent does for what it refused while something was missing: end the stream in peace."""
        assert self._call is not None
        await self._call.done_writing()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            files = self.files
            credentials = channel_credentials(files.certificate, files.key, files.ca)
            channel = open_channel(Target(self.address, self.control), credentials)
            try:
                await self._speak(channel)
            except grpc.aio.AioRpcError as error:
                self.last_error = str(error.details())
            finally:
                await channel.close()
            await asyncio.sleep(RETRY_S)

    async def _speak(self, channel: grpc.aio.Channel) -> None:
        self._call = call = channel.stream_stream(DELTA_METHOD)()
        for request in self.assembly.open():
            await call.write(request)
        while (data := await call.read()) is not grpc.aio.EOF:
            for out in self.assembly.on_response(data):
                answer = out if isinstance(out, bytes) else self._answer(out)
                if answer is not None:
                    await call.write(answer)

    def _answer(self, complete: Complete) -> bytes | None:
        self.received.append(complete)
        verdict = self.decide(complete)
        self._news.set()
        if isinstance(verdict, Refuse):
            return self.assembly.refuse(complete, verdict.words, verdict.type_url, verdict.names)
        return self.assembly.accept(complete) if verdict is None else None
