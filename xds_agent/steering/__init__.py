"""Steering: from what is known of clouds, paths and prices to where requests go. No clock, no I/O."""

from xds_agent.steering.decide import Question, comeback, decide
from xds_agent.steering.rtt import Estimate, Rtt, combined
from xds_agent.steering.values import (
    WHOLE,
    Endpoint,
    Group,
    Placed,
    Placement,
    Policy,
    Standing,
    group_of,
    spread,
)
from xds_agent.steering.world import Fees, Region, World, great_circle_km, least_rtt_ms

__all__ = [
    "WHOLE",
    "Endpoint",
    "Estimate",
    "Fees",
    "Group",
    "Placed",
    "Placement",
    "Policy",
    "Question",
    "Region",
    "Rtt",
    "Standing",
    "World",
    "combined",
    "comeback",
    "decide",
    "great_circle_km",
    "group_of",
    "least_rtt_ms",
    "spread",
]
