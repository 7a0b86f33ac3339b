"""Bring this machine's networks to what the lab's simulated clouds hold: script/pulumi --lab ends with it.

python -m lab.fabric          once, and see that somebody watches
python -m lab.fabric watch    until the clouds are gone
"""

from __future__ import annotations

import sys

from lab import place, site
from lab.errors import LabError
from lab.fabric import running, watcher


def main(arguments: list[str]) -> int:
    here = place.load(site.INVENTORY)
    if arguments == ["watch"]:
        watcher.watch(here)
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        running.ensure(here)
    except LabError as problem:
        print(f"{problem.what}; {problem.remedy}".rstrip("; "), file=sys.stderr)
        return 1
    if running.bridges_of(here):
        watcher.start(here)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
