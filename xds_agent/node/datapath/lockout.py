"""Lock-out safety: a change of the datapath stands only while control and gateway answer over new ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from xds_agent.node.datapath.network import Address, Interface, Network, NetworkError

_STEP_S = 0.02
# How long a gateway may take to answer before a change; one that does not, says nothing after it either.
_BASELINE_S = 1.0


@dataclass(frozen=True)
class Baseline:
    """Who answered before the change. `words`: why there may be none now."""

    gateways: tuple[tuple[Address, int], ...] = ()
    words: str = ""

    def over(self, indices: Collection[int]) -> Baseline:
        """Of these interfaces alone: of one that went nobody can answer."""
        return replace(self, gateways=tuple(one for one in self.gateways if one[1] in indices))


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

    async def silent(self, baseline: Baseline) -> dict[str, str]:
        """After the change: who does not answer within the patience, each in words. Control is asked whether
        or not it answered before."""
        control, gateways = await asyncio.gather(self.control_is_silent(), self.silent_gateways(baseline))
        within = f"within {self._patience_s:g} s"
        words = f"after the change control did not answer over a new connection {within}"
        return {"control": words, **gateways} if control else gateways

    async def silent_gateways(self, baseline: Baseline) -> dict[str, str]:
        """Of those that answered before, as `silent`."""
        try:
            found = await asyncio.to_thread(_silent, baseline.gateways, self._patience_s)
        except NetworkError as error:
            return {"network": f"after the change {error}"}
        within = f"within {self._patience_s:g} s"
        return {str(one): f"after the change gateway {one} did not answer {within}" for one in found}

    async def shut_out(self, baseline: Baseline) -> str:
        """After the change: "" when everybody still answers, else who does not."""
        return first_of(await self.silent(baseline))


def first_of(silent: Mapping[str, str]) -> str:
    """Words about one of them, "" where there is none."""
    return next(iter(silent.values()), "")


def _answering(indices: Sequence[int], patience_s: float) -> list[tuple[Address, int]]:
    with Network() as network:
        gateways = network.gateways(indices)
        return [one for one in gateways if _answers(network, one, patience_s)]


def _silent(gateways: Sequence[tuple[Address, int]], patience_s: float) -> list[Address]:
    """All are asked at the same time."""
    if not gateways:
        return []
    deadline = time.monotonic() + patience_s
    with Network() as network:
        for one in gateways:
            network.probe(*one)
        late = False
        while waiting := [one for one in gateways if not network.is_reachable(*one)]:
            # What was seen in time may be old by now, where this process stood still: the last look is late.
            if late:
                return [address for address, _ in waiting]
            time.sleep(_STEP_S)
            late = time.monotonic() > deadline
    return []


def _answers(network: Network, gateway: tuple[Address, int], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    network.probe(*gateway)
    late = False
    while not network.is_reachable(*gateway):
        if late:
            return False
        time.sleep(_STEP_S)
        late = time.monotonic() > deadline
    return True
