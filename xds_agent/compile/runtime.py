"""Runtime: ceilings that change without touching a listener."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.service.runtime.v3 import rtds_pb2

from xds_agent.model import ProxyLimits

NAME = "runtime"
"""The one Runtime resource; Envoy's bootstrap subscribes to it."""

# HTTP/2 rapid reset: a connection that resets more than this many young streams is closed.
_PREMATURE_RESETS = 100
_PREMATURE_RESET_S = 1


def runtime(limits: ProxyLimits, listeners: Iterable[str]) -> Any:
    """Runtime layer of a proxy with these TCP listeners.

    Each listener may take a proxy's whole ceiling; Envoy's overload manager holds them together below it.
    """
    message = rtds_pb2.Runtime(name=NAME)
    values = {
        "http.max_requests_per_io_cycle": 1,
        "overload.premature_reset_total_stream_count": _PREMATURE_RESETS,
        "overload.premature_reset_min_stream_lifetime_seconds": _PREMATURE_RESET_S,
    }
    for name in sorted(listeners):
        values[f"envoy.resource_limits.listener.{name}.connection_limit"] = limits.connections
    for key in sorted(values):
        message.layer.fields[key].number_value = values[key]
    return message
