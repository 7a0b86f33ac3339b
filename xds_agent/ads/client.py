"""A node agent's way to control: several addresses in order, one channel at a time, back-off between rounds.

What is said on the channel is a session's business (ADS and Report share one); this file only brings it a
channel, again and again. Credentials are read from disk for each attempt, so a renewed certificate is used
from the next connection on; control closes the stream of the old one when that expires, at the latest.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from xds_agent.ads.limits import ASKING

log = logging.getLogger(__name__)

DELTA_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
REPORT_METHOD = "/marchproxy.v1.NodeService/Report"

CONNECT_S = 5.0
BACK_OFF_FIRST_S = 0.1
BACK_OFF_MOST_S = 10.0
# A session that lived this long was a good one: the next round starts without waiting.
STEADY_S = 5.0

_OPTIONS = (
    *ASKING,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Its own connection: a subchannel shared with a dead channel would share its back-off, too.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.min_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One control host: where it listens and which name its certificate must prove."""

    address: str
    name: str


Session = Callable[[grpc.aio.Channel, Target], Awaitable[None]]


def open_channel(target: Target, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
    """A channel to `target` alone; nothing is connected yet."""
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", target.name))
    return grpc.aio.secure_channel(target.address, credentials, options=options)


async def answers(target: Target, credentials: grpc.ChannelCredentials) -> str:
    """ "" once `target` has let us in over a connection of its own, else why it has not."""
    channel = open_channel(target, credentials)
    try:
        async with asyncio.timeout(CONNECT_S):
            await channel.channel_ready()
    except TimeoutError:
        return f"no connection within {CONNECT_S:.0f} s"
    finally:
        await channel.close()
    return ""


class Upstream:
    """Keeps one session with the first control host that takes us."""

    def __init__(
        self, targets: Sequence[Target], credentials: Callable[[], grpc.ChannelCredentials], session: Session,
        *, rng: random.Random | None = None,
    ) -> None:  # fmt: skip
        self._targets = tuple(targets)
        self._credentials = credentials
        self._session = session
        self._rng = rng or random.Random()
        self.last_error = ""

    async def run(self) -> None:
        """For ever: each target in order; once around without success, wait and start over."""
        failed_rounds = 0
        while True:
            steady = False
            for target in self._targets:
                steady = await self._attempt(target)
                if steady:
                    break
            failed_rounds = 0 if steady else failed_rounds + 1
            await asyncio.sleep(self.back_off_s(failed_rounds))

    def back_off_s(self, failed_rounds: int) -> float:
        """Jittered: half to all of 0.1 s, doubled with every round that failed, 10 s at most."""
        most = min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2.0 ** min(failed_rounds, 10))
        return most * self._rng.uniform(0.5, 1.0)

    async def _attempt(self, target: Target) -> bool:
        """One session from end to end; True if it was a good one."""
        started = time.monotonic()
        try:
            channel = open_channel(target, self._credentials())
        except OSError as error:
            self._note(target, f"this host's certificate cannot be read: {error}")
            return False
        try:
            await _connected(channel)
            await self._session(channel, target)
            words = "control ended the stream"
        except grpc.aio.AioRpcError as error:
            words = f"{error.code().name}: {error.details()}"
        except TimeoutError:
            words = f"no connection within {CONNECT_S:.0f} s"
        except asyncio.InvalidStateError:
            # grpc.aio says so to whoever writes to a stream that ended a moment before.
            words = "the stream ended"
        finally:
            await channel.close()
        self._note(target, words)
        return time.monotonic() - started >= STEADY_S

    def _note(self, target: Target, words: str) -> None:
        text = f"control {target.name} ({target.address}): {words}"
        if text != self.last_error:
            log.warning("%s", text)
        self.last_error = text


async def _connected(channel: grpc.aio.Channel) -> None:
    """Returns once connected, or once it failed (the first RPC then says why). Raises TimeoutError."""
    async with asyncio.timeout(CONNECT_S):
        state = channel.get_state(try_to_connect=True)
        while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
