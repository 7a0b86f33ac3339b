"""Probes: whether an address answers from here, and how far away it is.

`Prober` is the shell; what is asked (`Target`), how it is spread over time (`Schedule`), what becomes of the
answers (`Tally`, `Window`) are pure.
"""

from xds_agent.node.probing.outcome import Answered, Failed, Outcome, Unable
from xds_agent.node.probing.prober import Prober, Result
from xds_agent.node.probing.schedule import PROBES_PER_S, OverBudget, Schedule, check_budget
from xds_agent.node.probing.tally import Tally, Window
from xds_agent.node.probing.targets import Check, Kind, Target, distinct

__all__ = [
    "PROBES_PER_S",
    "Answered",
    "Check",
    "Failed",
    "Kind",
    "Outcome",
    "OverBudget",
    "Prober",
    "Result",
    "Schedule",
    "Tally",
    "Target",
    "Unable",
    "Window",
    "check_budget",
    "distinct",
]
