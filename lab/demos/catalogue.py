"""Every demonstration, in the order in which they are listed."""

from __future__ import annotations

from lab.demos import bad_change, datapath, failover, steering
from lab.demos.stage import Demo

DEMOS: tuple[Demo, ...] = (bad_change.DEMO, datapath.DEMO, failover.DEMO, steering.DEMO)
