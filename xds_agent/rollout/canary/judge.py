"""Whether a canary answers a request as well as before the change. Pure.

The rule. A request is served when it is answered, by whomever, with anything but a 5xx, and Envoy itself did
not answer 404 or 421; or when the answer is the one that the configuration says (a redirect, a fixed
answer, a refused handshake). A request that was served before the change and is not after it fails the gate.
One that was not served before either is told and fails nothing: its backends may be yet to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds_agent.rollout.canary.question import Question, Reply

# Envoy's own words for "no such host or route" and "not on this connection".
_NOT_HERE = (404, 421)


@dataclass(frozen=True)
class Judged:
    """Requests that are worse, with words, and those that were not served before either."""

    worse: tuple[tuple[Question, str], ...] = ()
    neither: tuple[str, ...] = ()


def served(question: Question, reply: Reply) -> bool:
    """Whether the reply is as good as one can be."""
    if question.refused:
        return bool(reply.refused)
    if question.expected is not None and reply.status == question.expected:
        return True
    if not reply.status or reply.status >= 500:
        return False
    return not (reply.by_envoy and reply.status in _NOT_HERE)


def was_served(reply: Reply) -> bool:
    """Of a reply before the change: what was meant then does not matter, only what clients met."""
    if reply.refused:
        return True
    return served(Question("https", "", 0), reply)


def judge(proxy: str, before: Mapping[Question, Reply], after: Mapping[Question, Reply]) -> Judged:
    """Compare; a question without both replies is no evidence."""
    worse, neither = [], []
    for question, reply in after.items():
        earlier = before.get(question)
        if earlier is None or served(question, reply):
            continue
        if was_served(earlier):
            told = f"{proxy}: {question} was answered {reply}; before the change {earlier}"
            worse.append((question, told))
        else:
            neither.append(f"{proxy}: {question} is answered {reply}, and was not served before: {earlier}")
    return Judged(tuple(worse), tuple(neither))
