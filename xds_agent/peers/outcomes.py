"""What nodes answer, as control hosts tell one another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.outcomes import (
    Acknowledged,
    Connected,
    Disconnected,
    NodeState,
    Outcome,
    Refused,
)


def told(outcome: Outcome) -> pb.NodeOutcome | None:
    """None for what is no business of another control host."""
    if isinstance(outcome, Connected):
        return pb.NodeOutcome(kind="connected", node=outcome.node)
    if isinstance(outcome, Disconnected):
        return pb.NodeOutcome(kind="disconnected", node=outcome.node, words=outcome.reason)
    if isinstance(outcome, Acknowledged):
        return pb.NodeOutcome(kind="acknowledged", node=outcome.node, revision=outcome.revision)
    if isinstance(outcome, Refused):
        return pb.NodeOutcome(
            kind="refused", node=outcome.node, revision=outcome.revision, type_url=outcome.type_url,
            names=outcome.names, words=outcome.words,
        )  # fmt: skip
    return None


def heard(said: pb.NodeOutcome) -> Outcome | None:
    """The outcome again; None for a kind that this version does not know."""
    if said.kind == "connected":
        return Connected(said.node, 0)
    if said.kind == "disconnected":
        return Disconnected(said.node, said.words)
    if said.kind == "acknowledged":
        return Acknowledged(said.node, said.revision)
    if said.kind == "refused":
        return Refused(said.node, said.revision, said.type_url, tuple(said.names), said.words)
    return None


def standing(states: Iterable[NodeState], refusals: Iterable[Refused]) -> Iterator[pb.NodeOutcome]:
    """What a leader must hear first of the nodes that are connected here."""
    connected = [state for state in states if state.connected]
    for state in connected:
        yield pb.NodeOutcome(kind="connected", node=state.name)
        if state.active:
            yield pb.NodeOutcome(kind="acknowledged", node=state.name, revision=state.active)
    names = {state.name for state in connected}
    for refusal in refusals:
        if refusal.node in names and (said := told(refusal)) is not None:
            yield said
