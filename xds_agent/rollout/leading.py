"""What only a control host that leads may do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from xds_agent.store import StoreError

Done = TypeVar("Done")

_DEPOSED = "this control host leads no more, and proxies go back to what was live before; run it again"


async def while_leading(running: Coroutine[Any, Any, Done], deposed: asyncio.Event) -> Done:
    """Run it to its end. Raises StoreError, and cancels it, as soon as another control host may lead."""
    if deposed.is_set():
        running.close()
        raise StoreError(_DEPOSED)
    task, ending = asyncio.create_task(running), asyncio.create_task(deposed.wait())
    try:
        await asyncio.wait([task, ending], return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            raise StoreError(_DEPOSED)
        return task.result()
    finally:
        task.cancel()
        ending.cancel()
        await asyncio.gather(task, ending, return_exceptions=True)
