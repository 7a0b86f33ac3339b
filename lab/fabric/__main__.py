"""Bring this machine's rules to what the lab's simulated clouds hold: script/pulumi --lab ends with it."""

from __future__ import annotations

import sys

from lab import place, site
from lab.errors import LabError
from lab.fabric import running

if __name__ == "__main__":
    try:
        running.ensure(place.load(site.INVENTORY))
    except LabError as problem:
        print(f"{problem.what}; {problem.remedy}".rstrip("; "), file=sys.stderr)
        sys.exit(1)
