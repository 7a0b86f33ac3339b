"""What can go wrong with a host's datapath: what is foreseen is said in words, the rest with its name."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from xds_agent.datapath.libbpf import Unavailable
from xds_agent.node.datapath.attachment import AttachError
from xds_agent.node.datapath.network import NetworkError

log = logging.getLogger(__name__)

FAILURES = (AttachError, NetworkError, Unavailable, DecodeError, ValueError, OSError)
"""Foreseen; OverBudget and MapFull are ValueErrors."""


def in_words(error: Exception, *, told: str = "") -> str:
    """For people; what nobody foresaw is logged with where it happened, unless that was `told` last. Neither
    may end the agent: systemd would start it again, and it would meet the same."""
    if isinstance(error, FAILURES):
        return str(error)
    if repr(error) != told:
        log.error("a bug of the datapath", exc_info=error)
    return repr(error)
