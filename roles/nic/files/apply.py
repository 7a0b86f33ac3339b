"""At boot: bring network cards, interrupts and shaping to what the inventory said last (role `nic`).

The plan is that of the Ansible modules, by the same code. Each concern stands for itself: one that fails is
told in the journal and does not keep the others from being set.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.marchproxy.edge.plugins.module_utils import affinity, ethtool, htb, nic_plan


def run(command: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def set_nic(wanted: dict[str, Any]) -> Iterator[str]:
    actions = nic_plan.plan(ethtool.gather(wanted["name"], run), wanted)
    nic_plan.carry_out(actions, run)
    yield from (f"{one.interface} {one.what}: {one.before} -> {one.after}" for one in actions)


def set_affinity(wanted: dict[str, Any]) -> Iterator[str]:
    cpus = affinity.cpus_of(wanted.get("cpus") or "")
    settings = affinity.plan(affinity.gather(wanted["name"]), cpus)
    yield from (f"refused: {words}" for words in affinity.apply(settings))
    yield from (f"{one.interface} {one.what}: {one.after}" for one in settings)


def set_qos(wanted: dict[str, Any]) -> Iterator[str]:
    from pyroute2 import IPRoute

    name = wanted["name"]
    with IPRoute() as netlink:
        (index,) = netlink.link_lookup(ifname=name) or (None,)
        if index is None:
            raise htb.HtbError(f"no interface {name} on this host")
        tree = None
        if wanted.get("state", "present") == "present":
            tree = htb.wanted_tree(name, wanted["rate"], wanted.get("classes") or {})
        now = htb.tree_of(netlink.get_qdiscs(index=index), netlink.get_classes(index=index))
        for step in htb.plan(name, index, now, tree):
            netlink.tc(step.verb, **step.arguments)
            yield f"{step.interface} {step.what}: {step.after or 'removed'}"


CONCERNS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "interfaces": set_nic,
    "affinity": set_affinity,
    "qos": set_qos,
}


def main(path: str) -> int:
    """Exit code 1 if anything could not be set."""
    settings, failed = json.loads(Path(path).read_text(encoding="utf-8")), False
    for concern, apply in CONCERNS.items():
        for wanted in settings.get(concern) or []:
            try:
                for words in apply(wanted):
                    print(words)
            except Exception as error:  # one card must not keep the others from being set
                failed = True
                print(f"{concern} of {wanted.get('name', '?')}: {error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
