"""A simulated cloud's instance as a host of the lab: ``python -m lab.instance boot|remove``, JSON on stdin.

The cloud (pulumi/simcloud) gave it its name, address and subnet; the host is made by the lab's own recipe.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import first_boot, hosts, image, network, place
from lab.commands import podman_json
from lab.errors import LabError
from lab.fabric import running as fabric
from lab.fabric import watcher
from lab.place import HostSpec, Network, Place


def network_of(here: Place, machine: Mapping[str, Any]) -> Network:
    """The podman network of a machine's subnet; its first address is the router's, as in every cloud."""
    digest = hashlib.sha256(f"{machine['cloud']} {machine['subnet']}".encode()).hexdigest()[:8]
    base, _, bits = str(machine["range"]).partition("/")
    first = base.rpartition(".")
    return Network(
        name=f"{here.prefix}-{machine['cloud']}-{digest}",
        subnet=f"{base}/{bits}",
        gateway=f"{first[0]}.{int(first[2]) + 1}",
    )


def spec_of(here: Place, machine: Mapping[str, Any]) -> HostSpec:
    """The host that stands for a machine."""
    name = str(machine["name"])
    return HostSpec(
        name=name,
        container=f"{here.prefix}-{name}",
        network=network_of(here, machine).name,
        address=str(machine["address"]),
        groups=tuple(machine.get("groups") or ()),
        cloud=str(machine["cloud"]),
    )


def boot(here: Place, machine: Mapping[str, Any]) -> None:
    """Make the host and wait until it has started; LabError if it does not."""
    host, net = spec_of(here, machine), network_of(here, machine)
    with _alone(here):
        if net.name not in network.existing(here):
            network.ensure(here, [net])
    # Before it is there: what its rules do not let in yet, nobody does.
    fabric.ensure(here)
    # Machines ask for their metadata while they boot.
    watcher.start(here)
    hosts.create(here, host, image.name(), before_boot=first_boot.of(machine))
    hosts.wait_until_booted([host], lambda text: None)


def remove(here: Place, machine: Mapping[str, Any]) -> None:
    """Remove the host, and its subnet's network with the last host in it."""
    host = spec_of(here, machine)
    hosts.remove(here, [host.container])
    with _alone(here):
        users = podman_json("ps", "--all", "--format", "json", "--filter", f"network={host.network}")
        if not users:
            network.remove(here, {host.network})


@contextmanager
def _alone(here: Place) -> Iterator[None]:
    """Engines make and remove many machines at once; of each network there is one."""
    lock = here.state / "networks.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    todo = {"boot": boot, "remove": remove}
    if len(arguments) != 1 or arguments[0] not in todo:
        print(__doc__, file=sys.stderr)
        return 2
    here = place.load(Path(place.ROOT) / "inventories" / "lab" / "hosts.yml")
    try:
        todo[arguments[0]](here, json.load(sys.stdin))
    except LabError as problem:
        print(f"{problem.what}; {problem.remedy}".rstrip("; "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
