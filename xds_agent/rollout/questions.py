"""Questions to node agents about their Envoy, asked over their Report streams. Event-loop thread only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from xds_agent.compile import udp
from xds_agent.explain.closings import Closing
from xds_agent.explain.resets import Reset
from xds_agent.explain.said import listed, plural
from xds_agent.model import Site
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


def sessions_by_listener(site: Site) -> dict[str, str]:
    """Listener of udp_proxy -> service whose sessions it has."""
    ports = {one.name: site.edge.listen_port(one) for one in site.edge.services if one.protocol == "udp"}
    return {udp.listener_name(port): name for name, port in ports.items() if port is not None}


async def count_open(
    questions: Questions, closings: Sequence[Closing], resets: Sequence[Reset],
    sessions: Mapping[str, str], connected: Collection[str],
) -> list[dict[str, object]]:  # fmt: skip
    """What a change closes now, in words: a line for each listener and proxy, and one for each service that
    is served otherwise. `sessions` is `sessions_by_listener`."""
    touched = {one.proxy for one in closings} | {one.proxy for one in resets}
    names = sorted(touched & set(connected))
    asked = pb.Question(connections=True, flows=True)
    answers = await questions.ask(names, asked, within_s=COUNTS_WITHIN_S)
    lines: list[dict[str, object]] = [
        {"proxies": [proxy],
         "text": _count_words(listener, proxy, answers.get(proxy), whole=whole,
                              service=sessions.get(listener))}
        for (proxy, listener), whole in sorted(_by_listener(closings).items())
        if proxy in names
    ]  # fmt: skip
    for why, of_service in itertools.groupby(resets, key=lambda one: (one.service, one.why)):
        broken = list(of_service)
        text = f"{' '.join(why)}: {_reset_words(broken, answers)}"
        lines.append({"proxies": [one.proxy for one in broken], "text": text})
    return lines


def _by_listener(closings: Sequence[Closing]) -> dict[tuple[str, str], bool]:
    """(proxy, listener) -> whether the whole listener closes, not some of its filter chains."""
    found: dict[tuple[str, str], bool] = {}
    for one in closings:
        key = (one.proxy, one.listener)
        found[key] = found.get(key, False) or not one.reason.startswith("filter chain")
    return found


def _count_words(
    listener: str, proxy: str, answer: pb.Answer | None, *, whole: bool, service: str | None
) -> str:
    """`service`: whose sessions they are, of a listener for UDP."""
    what = "connection" if service is None else "session"
    count = _of_envoy(answer, listener, service)
    if count is None:
        return f"how many {what}s of listener {listener} are open on {proxy} could not be asked"
    most = "" if whole or not count else "at most "
    return f"closes {most}{count} open {what if count == 1 else what + 's'} of listener {listener} on {proxy}"


def _of_envoy(answer: pb.Answer | None, listener: str, service: str | None) -> int | None:
    """None: unknown, which is not none."""
    if answer is None or answer.error:
        return None
    if service is None:
        return int(answer.connections.get(listener, 0))
    return int(answer.sessions.get(service, 0)) if answer.sessions_known else None


def _count(reset: Reset, answer: pb.Answer | None) -> int | None:
    if reset.counted == "flows":
        flows = answer.flows if answer is not None else {}
        return int(flows[reset.service]) if reset.service in flows else None
    return _of_envoy(answer, reset.listener, reset.service if reset.counted == "sessions" else None)


def _reset_words(resets: Sequence[Reset], answers: Mapping[str, pb.Answer]) -> str:
    """'1,234 connections open on 3 of 4 hosts would be reset (edge-x does not say)'."""
    if resets[0].counted == "nowhere":
        return "its open connections would be reset; how many no table holds (gue and dsr keep none)"
    counts = {one.proxy: _count(one, answers.get(one.proxy)) for one in resets}
    known = [count for count in counts.values() if count is not None]
    silent = [name for name, count in counts.items() if count is None]
    if not known:
        return f"its open connections would be reset; how many, {_do_not_say(silent)}"
    total = sum(known)
    most = "at most " if total and any(one.shared for one in resets) else ""
    word = "connection" if total == 1 else "connections"
    where = plural(len(counts), "host") if not silent else f"{len(known)} of {plural(len(counts), 'host')}"
    doubt = f" ({_do_not_say(silent)})" if silent else ""
    return f"{most}{total:,} {word} open on {where} would be reset{doubt}"


def _do_not_say(names: Sequence[str]) -> str:
    return f"{listed(names)} {'does' if len(names) == 1 else 'do'} not say"
