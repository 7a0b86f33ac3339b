"""What the simulated clouds hold, as `simcloud fabric` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.fabric.filter import Guard, Machine
from lab.fabric.routes import Probe, Route, Subnet


@dataclass(frozen=True)
class World:
    """All clouds together."""

    machines: tuple[Machine, ...]
    subnets: tuple[Subnet, ...]
    public: Mapping[str, str]
    """Private address -> public one."""


def world_of(said: Mapping[str, Any]) -> World:
    return World(
        machines=tuple(map(_machine, said["machines"])),
        subnets=tuple(map(_subnet, said["subnets"])),
        public=said["public"],
    )


def _machine(said: Mapping[str, Any]) -> Machine:
    guards = tuple(
        Guard(
            lets=guard["lets"],
            sources=tuple(guard["sources"]),
            protocol=guard["protocol"],
            ports=tuple((low, high) for low, high in guard["ports"]),
        )
        for guard in said["guards"]
    )
    return Machine(said["name"], said["address"], said["forwards"], guards)


def _subnet(said: Mapping[str, Any]) -> Subnet:
    routes = tuple(
        Route(
            range=route["range"],
            hops=tuple(route["hops"]),
            probe=Probe(**route["probe"]) if route["probe"] else None,
        )
        for route in said["routes"]
    )
    return Subnet(said["range"], tuple(said["network"]), routes)
