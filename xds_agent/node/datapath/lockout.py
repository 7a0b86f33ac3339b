"""Lock-out safety: a change of the datapath stands only while control and gateway answer over new ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from xds_agent.node.datapath.network import Address, Interface, Network, NetworkError

_STEP_S = 0.02
# How long a gateway may take to answer before a change; one that does not, says nothing after it either.
_BASELINE_S = 1.0


@dataclass(frozen=True)
class Baseline:
    """Who answered before the change. `words`: why there may be none now."""

    gateways: tuple[tuple[Address, int], ...] = ()
    words: str = ""


class Lockout:
    """`control_answers` opens a new connection and returns "" or why control does not answer."""

    def __init__(self, control_answers: Callable[[], Awaitable[str]], *, patience_s: float) -> None:
        self._control_answers = control_answers
        self._patience_s = patience_s

    async def baseline(self, interfaces: Sequence[Interface]) -> Baseline:
        """To be asked before a change: without control nobody could take it back."""
        if words := await self._control_answers():
            return Baseline(words=words)
        return await self.gateways([one.index for one in interfaces])

    async def gateways(self, indices: Sequence[int]) -> Baseline:
        """Who answers on the links alone, while control is not asked yet."""
        try:
            return Baseline(tuple(await asyncio.to_thread(_answering, indices, _BASELINE_S)))
        except NetworkError as error:
            return Baseline(words=str(error))

    async def control_is_silent(self) -> str:
        """ "" once control answers within the patience, else why not."""
        deadline = time.monotonic() + self._patience_s
        words = await self._control_answers()
        while words and time.monotonic() < deadline:
            await asyncio.sleep(_STEP_S)
            words = await self._control_answers()
        return words

    async def shut_out(self, baseline: Baseline) -> str:
        """After the change: "" when everybody still answers within the patience, else who does not."""
        control, gateways = await asyncio.gather(
            self.control_is_silent(), self._silent_gateway(baseline.gateways)
        )
        within = f"within {self._patience_s:g} s"
        if control:
            return f"after the change control did not answer over a new connection {within}"
        return gateways and f"after the change {gateways} {within}"

    async def _silent_gateway(self, gateways: Sequence[tuple[Address, int]]) -> str:
        try:
            silent = await asyncio.to_thread(_silent, gateways, self._patience_s)
        except NetworkError as error:
            return str(error)
        return f"gateway {silent} did not answer" if silent else ""


def _answering(indices: Sequence[int], patience_s: float) -> list[tuple[Address, int]]:
    with Network() as network:
        gateways = network.gateways(indices)
        return [one for one in gateways if _answers(network, one, patience_s)]


def _silent(gateways: Sequence[tuple[Address, int]], patience_s: float) -> Address | None:
    """All are asked at the same time."""
    if not gateways:
        return None
    deadline = time.monotonic() + patience_s
    with Network() as network:
        for one in gateways:
            network.probe(*one)
        while waiting := [one for one in gateways if not network.is_reachable(*one)]:
            if time.monotonic() > deadline:
                return waiting[0][0]
            time.sleep(_STEP_S)
    return None


def _answers(network: Network, gateway: tuple[Address, int], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    network.probe(*gateway)
    while not network.is_reachable(*gateway):
        if time.monotonic() > deadline:
            return False
        time.sleep(_STEP_S)
    return True
