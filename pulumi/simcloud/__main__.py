"""The console of the simulated clouds: look at what they hold, and change it behind Pulumi's back.

python -m simcloud --world .lab/pulumi/world list
python -m simcloud --world .lab/pulumi/world terminate i-0123456789abcdef0
python -m simcloud --world .lab/pulumi/world change i-0123456789abcdef0 sourceDestCheck true
python -m simcloud --world .lab/pulumi/world guards edge-aws-us-east-1-1
python -m simcloud --world .lab/pulumi/world fabric
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from simcloud.cloud import Cloud
from simcloud.endpoint import serve
from simcloud.fabric import CLOUDS, fabric, machines_of
from simcloud.packets import restored
from simcloud.schema import Refused
from simcloud.world import Record, Store, World


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="simcloud", description="Look at, and change, what the clouds hold."
    )
    world = os.environ.get("SIMCLOUD_WORLD", ".lab/pulumi/world")
    parser.add_argument("--world", type=Path, default=Path(world), help="the folder of the clouds' state")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="everything, one resource a line")
    listing.add_argument("--json", action="store_true", help="with inputs and outputs, as JSON lines")
    commands.add_parser("terminate", help="make a resource go").add_argument("id")
    change = commands.add_parser("change", help="give a property another value")
    for word in ("id", "key", "value"):
        change.add_argument(word)
    guards = commands.add_parser("guards", help="what a machine lets in, as iptables-restore takes it")
    guards.add_argument("machine")
    commands.add_parser("fabric", help="what the networks do with packets, of all clouds, as JSON")
    endpoint = commands.add_parser(
        "endpoint", help="serve metadata to the machines of AWS and Google Cloud, and EC2"
    )
    endpoint.add_argument("address")
    options = parser.parse_args()
    stores = [Store(options.world, cloud) for cloud in CLOUDS]
    if options.command == "list":
        for store in stores:
            for record in store.read().records:
                print(json.dumps(asdict(record)) if options.json else f"{record.token:50} {record.id}")
        return 0
    if options.command == "fabric":
        print(json.dumps(fabric(options.world)))
        return 0
    if options.command == "endpoint":
        serve(options.world, options.address)
        return 0
    if options.command == "guards":
        return _guards(options.world, options.machine)
    for store in stores:
        if store.read().find(options.id):
            try:
                _alter(store, options)
            except Refused as no:
                print(no, file=sys.stderr)
                return 1
            return 0
    print(f"no cloud holds {options.id}; list shows what there is", file=sys.stderr)
    return 1


def _guards(folder: Path, wanted: str) -> int:
    machines = [machine for machines in machines_of(folder).values() for machine in machines]
    for machine in machines:
        if machine.name == wanted:
            print(restored(machine), end="")
            return 0
    names = [machine.name for machine in machines]
    print(f"no machine is called {wanted}; there are {', '.join(names) or 'none'}", file=sys.stderr)
    return 1


def _release(cloud: str, record: Record, world: World) -> None:
    """What goes along with a record, as when it is deleted; raises Refused where the cloud keeps it."""
    declared: Cloud = importlib.import_module(f"simcloud.{cloud.partition('-')[0]}").CLOUD
    if release := declared.types[record.token].release:
        release(record, world)


def _alter(store: Store, options: argparse.Namespace) -> None:
    with store.change() as world:
        record = world.find(options.id)
        assert record is not None
        if options.command == "terminate":
            _release(store.cloud, record, world)
        world.remove(record)
        if options.command == "change":
            value = {options.key: json.loads(options.value)}
            world.add(replace(record, inputs={**record.inputs, **value}, outputs={**record.outputs, **value}))


if __name__ == "__main__":
    sys.exit(main())
