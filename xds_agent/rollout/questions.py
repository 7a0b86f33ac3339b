"""Questions to node agents about their Envoy, asked over their Report streams. Event-loop thread only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from xds_agent.explain.closings import Closing
from xds_agent.proto import marchproxy_pb2 as pb

# Longer than an agent gives its Envoy.
ANSWER_WITHIN_S = 25.0
COUNTS_WITHIN_S = 3.0

Tell = Callable[[Collection[str], pb.ReportResponse], None]


@dataclass
class Questions:
    """`tell` sends a question to named nodes; `heard` takes what they answer."""

    tell: Tell = field(default=lambda names, response: None)
    _numbers: itertools.count[int] = field(init=False, default_factory=lambda: itertools.count(1))
    _open: dict[int, dict[str, asyncio.Future[pb.Answer]]] = field(init=False, default_factory=dict)

    async def ask(
        self, names: Collection[str], question: pb.Question, *, within_s: float = ANSWER_WITHIN_S
    ) -> dict[str, pb.Answer]:
        """The answers of those nodes that gave one in time. An agent that knows no questions gives none."""
        if not names:
            return {}
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        waiting = self._open[number] = {name: loop.create_future() for name in names}
        asked = pb.Question()
        asked.CopyFrom(question)
        asked.id = number
        try:
            self.tell(names, pb.ReportResponse(question=asked))
            await asyncio.wait(waiting.values(), timeout=within_s)
        finally:
            del self._open[number]
        return {name: future.result() for name, future in waiting.items() if future.done()}

    def heard(self, name: str, answer: pb.Answer) -> None:
        """An answer that nobody waits for any more is dropped."""
        future = self._open.get(answer.id, {}).get(name)
        if future is not None and not future.done():
            future.set_result(answer)


async def ask_canary(
    questions: Questions, name: str, requests: Sequence[pb.CanaryRequest], within_s: float
) -> list[pb.CanaryReply] | None:
    """What the node's Envoy replies to each; None from a node that is away, too slow, or too old to know."""
    answers = await questions.ask([name], pb.Question(requests=requests), within_s=within_s)
    replies = list(answers[name].replies) if name in answers else []
    return replies if len(replies) == len(requests) else None


async def count_open(
    questions: Questions, closings: Sequence[Closing], connected: Collection[str]
) -> list[dict[str, object]]:
    """What the closings of a change mean now: a line in words for each listener and proxy."""
    names = sorted({one.proxy for one in closings} & set(connected))
    if not names:
        return []
    answers = await questions.ask(names, pb.Question(connections=True), within_s=COUNTS_WITHIN_S)
    opened = {name: dict(one.connections) for name, one in answers.items() if not one.error}
    return [
        {"proxies": [proxy], "text": _count_words(listener, proxy, whole=whole, opened=opened.get(proxy))}
        for (proxy, listener), whole in sorted(_by_listener(closings).items())
        if proxy in names
    ]


def _by_listener(closings: Sequence[Closing]) -> dict[tuple[str, str], bool]:
    """(proxy, listener) -> whether the whole listener closes, not some of its filter chains."""
    found: dict[tuple[str, str], bool] = {}
    for one in closings:
        key = (one.proxy, one.listener)
        found[key] = found.get(key, False) or not one.reason.startswith("filter chain")
    return found


def _count_words(listener: str, proxy: str, *, whole: bool, opened: Mapping[str, int] | None) -> str:
    if opened is None:
        return f"how many connections of listener {listener} are open on {proxy} could not be asked"
    count = opened.get(listener, 0)
    most = "" if whole or not count else "at most "
    connections = "connection" if count == 1 else "connections"
    return f"closes {most}{count} open {connections} of listener {listener} on {proxy}"
