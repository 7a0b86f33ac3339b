"""What the simulated clouds hold, as `simcloud fabric` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.fabric import fronts, names, routes
from lab.fabric.filter import Guard, Machine
from lab.fabric.fronts import Front, Target
from lab.fabric.names import Choice, Endpoint, Name
from lab.fabric.routes import Asked, Probe, Route, Subnet

# Public addresses that each cloud hands out.
PUBLIC_OF = {"aws": "198.18.0.0/17", "gcp": "198.18.128.0/17", "azure": "198.19.0.0/17"}


@dataclass(frozen=True)
class World:
    """All clouds together."""

    machines: tuple[Machine, ...]
    subnets: tuple[Subnet, ...]
    public: Mapping[str, str]
    """Private address -> public one."""
    outbound: Mapping[str, str]
    """Private address -> public source of what it sends."""
    fronts: tuple[Front, ...]
    names: tuple[Name, ...]

    @property
    def asked(self) -> set[Asked]:
        """Every health check that the clouds make."""
        return routes.asked(self.subnets) | fronts.asked(self.fronts) | names.asked(self.names)

    @property
    def places(self) -> dict[str, names.Place]:
        """Public address -> cloud and region that it belongs to."""
        own = {one.address: (one.cloud.partition("-")[0], one.region) for one in self.machines}
        sent = {public: own[private] for private, public in self.outbound.items() if private in own}
        taken = {
            front.address: own[target.address]
            for front in self.fronts
            for target in front.targets
            if target.address in own
        }
        return {**sent, **taken}


def world_of(said: Mapping[str, Any]) -> World:
    return World(
        machines=tuple(map(_machine, said["machines"])),
        subnets=tuple(map(_subnet, said["subnets"])),
        public=said["public"],
        outbound=said["outbound"],
        fronts=tuple(map(_front, said["fronts"])),
        names=tuple(map(_name, said["names"])),
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
    return Machine(said["name"], said["address"], said["forwards"], guards, said["cloud"], said["region"])


def _subnet(said: Mapping[str, Any]) -> Subnet:
    routes = tuple(
        Route(
            range=route["range"],
            hops=tuple(route["hops"]),
            probe=_probe(route["probe"]),
        )
        for route in said["routes"]
    )
    return Subnet(said["range"], tuple(said["network"]), routes)


def _probe(said: Mapping[str, Any] | None) -> Probe | None:
    return Probe(**{**said, "accepts": tuple(said["accepts"])}) if said else None


def _front(said: Mapping[str, Any]) -> Front:
    targets = tuple(Target(**target) for target in said["targets"])
    return Front(
        **{**said, "sources": tuple(said["sources"]), "targets": targets, "probe": _probe(said["probe"])}
    )


def _name(said: Mapping[str, Any]) -> Name:
    return Name(**{**said, "choices": tuple(map(_choice, said["choices"]))})


def _choice(said: Mapping[str, Any]) -> Choice:
    endpoints = tuple(Endpoint(one["address"], _probe(one["probe"])) for one in said["endpoints"])
    return Choice(**{**said, "endpoints": endpoints})
