"""The graph of what a program asked for: the mock monitor, with what its mocks do not show.

Everything is asserted on the finished graph. An assertion inside `apply` proves nothing: where a value is
unknown the callback never runs.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_iac.plan import plan_site
from edge_iac.program import make
from edge_iac.site import Site, load_site
from pulumi.runtime import rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockMonitor, Mocks, set_mocks
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import run_in_stack

import pulumi
from tests.unit.pulumi.support.answers import Answers

# Of a seed that everybody can guess: 0, 1, 2, ... 31.
AUTHORITY = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACADoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuAAAAJAnvS6mJ70u
pgAAAAtzc2gtZWQyNTUxOQAAACADoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA
AAAEAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHwOhB7/zzhC+HXDdGOdLwJln
5NYwm6UNXx3chmQSVTG4AAAACnRlc3RzIG9ubHkBAgM=
-----END OPENSSH PRIVATE KEY-----
"""


@dataclass(frozen=True)
class Node:
    """A resource as it was registered."""

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    """Type and name of the component it belongs to; '' for the stack."""
    provider: str
    """Name of the provider it was given explicitly; '' for components and providers."""
    depends_on: tuple[str, ...]
    """'type name' of what it waits for, sorted."""
    protect: bool
    retain: bool
    secrets: tuple[str, ...]
    """Inputs that were secret."""
    ignore_changes: tuple[str, ...] = ()
    delete_before_replace: bool = False
    aliases: tuple[str, ...] = ()
    """Types it was called by before."""


@dataclass
class Graph:
    """All that one run registered, and what it exported."""

    nodes: list[Node] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Node]:
        """Nodes whose type ends in ``kind``: 'ec2/instance:Instance'."""
        return [node for node in self.nodes if node.type.endswith(kind)]

    def one(self, kind: str, name: str) -> Node:
        """The node of that type and name; AssertionError when there is none."""
        found = [node for node in self.of(kind) if node.name == name]
        assert found, f"no {kind} {name}; there are {[node.name for node in self.of(kind)]}"
        return found[0]


class Recorder(MockMonitor):
    """Keeps what the engine would be told."""

    def __init__(self, answers: Mocks) -> None:
        super().__init__(answers)
        self.graph = Graph()
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:  # the protocol's own name
        answer = super().RegisterResource(request)
        if request.type == "pulumi:pulumi:Stack":
            return answer
        secrets = []
        inputs = {}
        for key, value in rpc.deserialize_properties(request.object, keep_unknowns=True).items():
            if rpc.is_rpc_secret(value):
                secrets.append(key)
            inputs[key] = whole(rpc.unwrap_rpc_secret(value))
        with self._lock:
            self.graph.nodes.append(
                Node(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    parent=_short(request.parent),
                    provider=_short(request.provider.rpartition("::")[0]).partition(" ")[2],
                    depends_on=tuple(sorted(map(_short, request.dependencies))),
                    protect=request.protect,
                    retain=request.retainOnDelete,
                    secrets=tuple(sorted(secrets)),
                    ignore_changes=tuple(request.ignoreChanges),
                    delete_before_replace=request.deleteBeforeReplace,
                    aliases=tuple(one.spec.type for one in request.aliases),
                )
            )
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            for key, value in rpc.deserialize_properties(request.outputs).items():
                if rpc.is_rpc_secret(value):
                    self.graph.secret_outputs.append(key)
                self.graph.outputs[key] = whole(rpc.unwrap_rpc_secret(value))
        return super().RegisterResourceOutputs(request)


def whole(value: Any) -> Any:
    """``value`` with whole numbers as such: they cross the protocol as doubles."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def _short(urn: str) -> str:
    """'urn:pulumi:s::p::edge:aws:Network$aws:ec2/vpc:Vpc::name' -> 'aws:ec2/vpc:Vpc name'."""
    if not urn or "pulumi:pulumi:Stack" in urn.split("::")[2].split("$")[-1]:
        return ""
    parts = urn.split("::")
    return f"{parts[2].rpartition('$')[2]} {'::'.join(parts[3:])}"


def run_program(
    program: Callable[[], None],
    *,
    stack: str = "site",
    config: dict[str, str] | None = None,
    answers: Mocks | None = None,
) -> Graph:
    """Runs ``program`` as the engine would; everything it registered. What it raises comes through."""
    answers = answers or Answers()
    recorder = Recorder(answers)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        set_mocks(answers, project="edge", stack=stack, preview=False, monitor=recorder)
        set_all_config({f"edge:{key}": value for key, value in (config or {}).items()}, ["edge:hostCaKey"])
        # Each run begins with nothing left of the one before, nor of the stack that set_mocks makes.
        SETTINGS.rpc_manager.clear()
        set_root_resource(None)  # type: ignore[arg-type]
        loop.run_until_complete(run_in_stack(program))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    recorder.graph.nodes.sort(key=lambda node: (node.type, node.name))
    return recorder.graph


def graph_of(site: Site, answers: Mocks | None = None) -> Graph:
    """What the program registers for ``site``."""
    return run_program(
        lambda: make(plan_site(site), authority=pulumi.Output.secret(AUTHORITY)),
        stack=site.name,
        answers=answers,
    )


@functools.cache
def graph_of_sites(name: str) -> Graph:
    """The graph of a site that comes along, made once."""
    return graph_of(load_site(name))
