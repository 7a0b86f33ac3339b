"""UDP: any answer is a good one; a port nobody listens on is told by ICMP, silence is silence."""

from __future__ import annotations

import asyncio
import socket
import time

from xds_agent.node.probing.outcome import Answered, Outcome
from xds_agent.node.probing.targets import Target

_DATAGRAM_BYTES = 65_535


async def udp(target: Target) -> Outcome:
    """Sends the payload and waits."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
        connection.connect((target.address, target.port))
        started = time.perf_counter()
        connection.send(target.check.payload)
        await asyncio.get_running_loop().sock_recv(connection, _DATAGRAM_BYTES)
        return Answered((time.perf_counter() - started) * 1000.0)
