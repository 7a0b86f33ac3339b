"""What an agent says it takes (Node.client_features), and how one of an earlier version is served without.

An upgrade exchanges control before the agents: until theirs comes, they are to go on with what they know.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from xds_agent.proto import datapath_pb2
from xds_agent.snapshot.resource import DATAPATH_SERVICE, Resource, Snapshot

INLINE = "marchproxy.inline"
"""Parts within the Revision."""
KERNEL = "marchproxy.kernel"
"""Datapath services that the host's own Envoy serves (Forward.KERNEL): others end by them."""
FEATURES = (INLINE, KERNEL)
"""Of this version."""


class Views:
    """A snapshot as agents without a feature see it: of the same revision, with less in it. `forget` what is
    published no more."""

    def __init__(self) -> None:
        # The whole one is kept too, so that its identity is not given to another object meanwhile.
        self._without: dict[int, tuple[Snapshot, Snapshot]] = {}

    def of(self, snapshot: Snapshot, features: Collection[str]) -> Snapshot:
        """`snapshot` itself where nothing is to be left out; the same object for all agents of one kind."""
        if KERNEL in features:
            return snapshot
        found = self._without.get(id(snapshot))
        if found is None:
            found = self._without[id(snapshot)] = (snapshot, _without_kernel(snapshot))
        return found[1]

    def forget(self) -> None:
        self._without.clear()


def _without_kernel(snapshot: Snapshot) -> Snapshot:
    services = snapshot.of_type(DATAPATH_SERVICE)
    known = {name: one for name, one in services.items() if not _by_kernel(one)}
    if len(known) == len(services):
        return snapshot
    return replace(Snapshot.after(snapshot, {DATAPATH_SERVICE: known}), revision=snapshot.revision)


def _by_kernel(resource: Resource) -> bool:
    return datapath_pb2.Service.FromString(resource.body.value).forward == datapath_pb2.KERNEL
