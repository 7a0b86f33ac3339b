"""Asks the canaries of a wave before the change reaches them and once they have it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from xds_agent.model import Site
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout.canary.choose import Chosen, choose
from xds_agent.rollout.canary.judge import judge, served
from xds_agent.rollout.canary.question import Question, Reply
from xds_agent.rollout.waves import one_of_each
from xds_agent.snapshot.resource import Snapshot

# Proxies of one wave that are asked, whatever its size.
CANARIES_MOST = 8
# An agent answers within its own 5 s, whatever Envoy does.
REPLY_WITHIN_S = 8.0
# A request that fails is made again: a backend may be between two health checks.
TRIES = 3
BETWEEN_TRIES_S = 0.5

# Replies of a node in the order of the requests, or None when it gave none in time.
Ask = Callable[[str, Sequence[pb.CanaryRequest], float], Awaitable["list[pb.CanaryReply] | None"]]
Replies = Mapping[Question, Reply]


@dataclass(frozen=True)
class Worse:
    """A proxy that answers a request worse than before, and the line of the inventory behind it."""

    node: str
    words: str
    line: str


@dataclass
class Rounds:
    """`before` a wave gets the change, `after` it has acknowledged it; `notes` is what people should know."""

    ask: Ask
    old_site: Site
    new_site: Site
    old: Mapping[str, Snapshot]
    new: Mapping[str, Snapshot]
    notes: list[str] = field(init=False, default_factory=list)
    _chosen: dict[tuple[str, str], Chosen] = field(init=False, default_factory=dict)
    _before: dict[str, Replies] = field(init=False, default_factory=dict)

    async def before(self, wave: Collection[str]) -> None:
        """What the canaries of the wave answer now."""
        standing = [name for name in wave if name in self.old]
        canaries = one_of_each(standing, self.new_site.hosts)[:CANARIES_MOST]
        asked = {name: await self._questions(name) for name in canaries}
        replies = await self._ask({name: questions for name, questions in asked.items() if questions})
        self._before = {}
        for name, found in replies.items():
            if found is None:
                self._note(f"{name} made no requests: its agent does not answer, or is of an earlier version")
            else:
                self._before[name] = found

    async def after(self) -> list[Worse]:
        """Which of them are answered worse now, each tried several times."""
        after: dict[str, dict[Question, Reply]] = {name: {} for name in self._before}
        open_ = {name: tuple(replies) for name, replies in self._before.items()}
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(BETWEEN_TRIES_S)
            for name, replies in (await self._ask(open_)).items():
                after[name].update(replies or {})
            open_ = {
                name: left for name, questions in open_.items()
                if (left := tuple(q for q in questions if q in after[name] and not served(q, after[name][q])))
            }  # fmt: skip
            if not open_:
                break
        return self._judged(after)

    @property
    def evidence(self) -> str:
        """On how much the last verdict rests."""
        requests = sum(len(replies) for replies in self._before.values())
        return f"{requests} requests through {', '.join(self._before)}" if requests else "no requests"

    def _judged(self, after: Mapping[str, Replies]) -> list[Worse]:
        worse = []
        for name, replies in after.items():
            verdict = judge(name, self._before[name], replies)
            worse += [Worse(name, words, question.line) for question, words in verdict.worse]
            for words in verdict.neither:
                self._note(words)
        return worse

    async def _questions(self, name: str) -> tuple[Question, ...]:
        before, after = self.old[name], self.new[name]
        step = (before.revision, after.revision)
        if step not in self._chosen:
            self._chosen[step] = await asyncio.to_thread(choose, self.old_site, self.new_site, before, after)
            for words in self._chosen[step].unasked:
                self._note(f"no canary asked for {words}")
        return self._chosen[step].questions

    async def _ask(self, wanted: Mapping[str, Sequence[Question]]) -> dict[str, dict[Question, Reply] | None]:
        names = list(wanted)
        found = await asyncio.gather(
            *(self.ask(name, [_request(one) for one in wanted[name]], REPLY_WITHIN_S) for name in names)
        )
        return {
            name: None if replies is None else dict(zip(wanted[name], map(_read, replies), strict=True))
            for name, replies in zip(names, found, strict=True)
        }

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)


def _request(question: Question) -> pb.CanaryRequest:
    return pb.CanaryRequest(
        address=question.address, port=question.port, scheme=question.scheme, host=question.host,
        method=question.method, path=question.path, headers=dict(question.headers),
        own_certificate=question.own_certificate, handshake_only=question.refused,
    )  # fmt: skip


def _read(reply: pb.CanaryReply) -> Reply:
    return Reply(reply.status, reply.by_envoy, reply.refused, reply.failed, reply.words)
