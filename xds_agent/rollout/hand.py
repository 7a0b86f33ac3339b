"""Whose hand is on what is published: one change of it at a time, lent out while an edit only soaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Hand(asyncio.Lock):
    """Held by whoever changes what is published."""

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Let others have it meanwhile. It is held again afterwards, also when this is cancelled: whoever
        took it further out releases it there, and must not release somebody else's."""
        self.release()
        try:
            yield
        finally:
            taking = asyncio.ensure_future(self.acquire())
            cancelled = False
            while not taking.done():
                try:
                    await asyncio.shield(taking)
                except asyncio.CancelledError:
                    cancelled = True
            if cancelled:
                raise asyncio.CancelledError
