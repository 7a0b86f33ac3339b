"""A card joins those that run the program: one that refused it first, has come back with another number, or
was not there when the program was proved. It stays only if control and its gateways answer as before.

Until then its link is pinned nowhere: whatever ends the agent takes the program off it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from xds_agent.datapath.link import Link
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.failures import in_words
from xds_agent.node.datapath.lockout import Baseline, Lockout, first_of
from xds_agent.node.datapath.network import Interface, index_of
from xds_agent.node.datapath.running import Running

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
# A trial ends this soon after somebody takes the program off by hand, who finds no pin of it.
_BY_HAND_S = 0.2
# Where the program shut somebody out it does so again for as long as that takes to show: ever more rarely.
_SHUT_OUT_AGAIN_S, _SHUT_OUT_MOST_S = 60.0, 3600.0
_Key = tuple[str, int]


class ShutOut(AttachError):
    """Somebody answered before, not with the program on the card, and again without it."""


class Joining:
    """`once` a second, while the datapath runs."""

    def __init__(
        self, running: Running, lockout: Lockout, in_thread: Callable[..., Awaitable[Any]],
        *, change: asyncio.Lock, turn: asyncio.Lock, settled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`settled`: whether the program that runs is the one on record, not on probation."""
        self._running, self._lockout, self._in_thread = running, lockout, in_thread
        self._change, self._turn, self._settled = change, turn, settled
        # By card as it is: when it may be tried again, and how long it waited after it shut somebody out.
        self._at: dict[_Key, float] = {}
        self._waited_s: dict[_Key, float] = {}

    async def once(self) -> bool:
        """Try each card that is due; True if there was one. Raises nothing."""
        due = await self._in_thread(self._due)
        for key in due:
            await self._try(key)
        return bool(due)

    def _due(self) -> list[_Key]:
        keys = [(name, index_of(name)) for name in self._running.attached.to_try_again]
        return [key for key in keys if time.monotonic() >= self._at.get(key, 0.0)]

    async def _try(self, key: _Key) -> None:
        name, attached, wait_s = key[0], self._running.attached, _AGAIN_S
        try:
            await self._join(name)
            self._waited_s.pop(key, None)
            return
        except ShutOut as error:
            words = str(error)
            wait_s = min(max(_SHUT_OUT_AGAIN_S, 2 * self._waited_s.get(key, 0.0)), _SHUT_OUT_MOST_S)
            self._waited_s[key] = wait_s
        except Exception as error:
            words = in_words(error, told=attached.refused.get(name, ""))
        self._at[key] = time.monotonic() + wait_s
        async with self._turn:
            await self._in_thread(attached.refuse, name, words)

    async def _join(self, name: str) -> None:
        """Raises AttachError, NetworkError, OSError with why it does not."""
        running, attached = self._running, self._running.attached
        async with self._turn:
            card = await self._in_thread(running.card, name)
            if attached.carried(card):
                # Lost on the very card it ran on: a flood, which it holds against, may silence the gateway.
                link = await self._in_thread(running.try_on, card, None)
                await self._in_thread(running.keep, card, link, False)
                return
        before, control = await self._who_answers(card)
        tried: Link | None = await asyncio.to_thread(running.preflight.card, card)
        try:
            async with self._change:
                async with self._turn:
                    tried = await self._in_thread(running.try_on, card, tried)
                if silent := await self._silent_with_it(before, control=control):
                    link, tried = tried, None
                    await self._shut_out(card, link, silent, before, control=control)
                link, tried = tried, None
                async with self._turn:
                    await self._in_thread(running.keep, card, link, control and self._settled())
        finally:
            if tried is not None:
                tried.close()

    async def _who_answers(self, card: Interface) -> tuple[Baseline, bool]:
        """Before, and whether control does. A card the program never ran on waits for it, as every change
        does; another comes back without. Raises AttachError."""
        before = await self._lockout.baseline([card])
        if not before.words:
            return before, True
        if not await self._in_thread(self._running.attached.knows, card.name):
            raise AttachError(f"{card.name} gets the program once control answers: {before.words}")
        before = await self._lockout.gateways([card.index])
        if before.words:
            raise AttachError(before.words)
        return before, False

    async def _silent_with_it(self, before: Baseline, *, control: bool) -> dict[str, str]:
        """As `_silent`. Raises AttachError as soon as the program is taken off by hand."""
        asking = asyncio.create_task(self._silent(before, control=control))
        try:
            while not (await asyncio.wait([asking], timeout=_BY_HAND_S))[0]:
                self._running.attached.check_by_hand()
            return await asking
        finally:
            asking.cancel()

    async def _silent(self, before: Baseline, *, control: bool) -> dict[str, str]:
        """Control that was silent before says nothing after."""
        ask = self._lockout.silent if control else self._lockout.silent_gateways
        return await ask(before)

    async def _shut_out(
        self, card: Interface, link: Link, silent: dict[str, str], before: Baseline, *, control: bool
    ) -> None:
        """Off the card at once. Raises ShutOut if they answer without it, else AttachError."""
        link.close()
        still = await self._silent(before, control=control)
        guilt = {who: words for who, words in silent.items() if who not in still}
        words = f"{card.name} lost the program again: {first_of(guilt or silent)}"
        if not guilt:
            raise AttachError(words)
        if self._settled():
            await self._in_thread(self._running.attached.drop, card.name)
        raise ShutOut(words)
