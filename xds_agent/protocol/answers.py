"""Answers to Envoy's subscriptions, as they come, from what it is to hold at that moment."""

from __future__ import annotations

from collections.abc import Mapping

from xds_agent.protocol.converge import View
from xds_agent.protocol.delta import Heard
from xds_agent.protocol.envoy_stream import WILDCARD_TYPES, EnvoyStream
from xds_agent.snapshot.resource import ENDPOINTS, EXTENSION, SECRET, Resource

Goal = Mapping[str, Mapping[str, Resource]]


def answer(stream: EnvoyStream, type_url: str, heard: Heard, view: View, goal: Goal) -> None:
    """Queue the response that one request is owed, if any. `goal` is where this Envoy is being taken: what it
    asks for because something new refers to it may come ahead of its stage, and enters `view`."""
    if not (heard.first or heard.asked):
        return
    state, ours = stream.state(type_url), view.setdefault(type_url, {})
    if type_url not in WILDCARD_TYPES:
        theirs = goal.get(type_url, {})
        ours.update((n, theirs[n]) for n in heard.asked.names if n not in ours and n in theirs)
    under_way = _under_way(stream, heard, ours) if type_url == ENDPOINTS else frozenset()
    if heard.first or state.subscription.wildcard or heard.asked.narrowed:
        update, gone = state.due(ours)
    else:
        update, gone = state.due_of(ours, heard.asked.names - under_way)
    bodiless = [name for name in update if not _has_body(ours, goal.get(type_url, {}), name)]
    update, gone = [name for name in update if name not in bodiless], gone + bodiless
    if type_url == EXTENSION:
        gone = []  # Rule 26.
    if type_url == SECRET:
        gone = [name for name in gone if not state.known.get(name)]  # Rule 19: it would open the port.
    if update or gone or state.owes_answer:
        stream.push(type_url, [ours[name] for name in update], gone)


def _under_way(stream: EnvoyStream, heard: Heard, ours: Mapping[str, Resource]) -> frozenset[str]:
    """Endpoint sets asked for now that went out behind their cluster: no second answer (trap 9)."""
    found = frozenset(n for n in heard.asked.names if n in ours and stream.sent_ahead(n, ours[n].version))
    stream.state(ENDPOINTS).known.update((name, ours[name].version) for name in found)
    return found


def _has_body(ours: dict[str, Resource], theirs: Mapping[str, Resource], name: str) -> bool:
    """After a reconnect some of the view is known by its version only; what is asked for again comes from
    where the Envoy is being taken, if that has it."""
    if not ours[name].raw:
        if name not in theirs:
            return False
        ours[name] = theirs[name]
    return True
