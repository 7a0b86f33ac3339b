"""Whose turn it is: one person's change at a time, the others told who is ahead or waiting in line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xds_agent.rollout.change import Conflict


class Queue:
    """`who` is at it, in words; empty when nobody is. First come, first served."""

    def __init__(self) -> None:
        self.who = ""
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, who: str, wait_s: float) -> AsyncIterator[None]:
        """Raises Conflict naming who is ahead when it is not one's turn within `wait_s`."""
        try:
            # A limit of 0 would not even take a lock that is free.
            async with asyncio.timeout(wait_s if self._lock.locked() else None):
                await self._lock.acquire()
        except TimeoutError:
            waited = f" after {wait_s:g} s" if wait_s else ""
            raise Conflict(
                f"{self.who} is{' still' if waited else ''} applying a change{waited}",
                "wait until it has ended and run again, or let it wait: -e wait=60",
            ) from None
        self.who = who
        try:
            yield
        finally:
            self.who = ""
            self._lock.release()
