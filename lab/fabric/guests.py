"""What Google's guest agent does inside hosts: takes packets for the addresses of balancers before them."""

from __future__ import annotations

import json

from lab.commands import attempt, podman_json
from lab.fabric.world import World
from lab.place import Place

# The routing protocol that the agent's routes carry.
_AGENT = "66"


def ensure(place: Place, world: World) -> None:
    """Every running target has a local route for each address that it sees as destination, and no other."""
    wanted: dict[str, set[str]] = {}
    for front in world.fronts:
        if front.keeps_destination:
            for target in front.targets:
                wanted.setdefault(target.address, set()).add(front.address)
    for machine in world.machines:
        if machine.cloud == "gcp" and (inside := _namespace(f"{place.prefix}-{machine.name}")):
            _set(inside, wanted.get(machine.address, set()))


def _namespace(container: str) -> list[str]:
    """The words before a command inside; none where the host does not run."""
    if attempt(["podman", "container", "exists", container]).returncode:
        return []
    [found] = podman_json("inspect", "--format", "json", container)
    pid = found["State"]["Pid"]
    return ["nsenter", "--target", str(pid), "--net"] if pid else []


def _set(inside: list[str], wanted: set[str]) -> None:
    route = [*inside, "ip", "-4", "route"]
    shown = attempt([*inside, "ip", "-j", "-4", "route", "show", "table", "local", "proto", _AGENT])
    here = {entry["dst"] for entry in json.loads(shown.stdout or "[]")}
    for action, which in (("add", wanted - here), ("del", here - wanted)):
        for address in which:
            # The edge's own agent may have taken the address for itself: then there is a route already.
            attempt([*route, action, "local", address, "dev", "eth0", "proto", _AGENT, "table", "local"])
