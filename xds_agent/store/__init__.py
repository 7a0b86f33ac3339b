"""Revisions, nodes, audit and secrets in SQLite or PostgreSQL; see docs/control.md."""

from xds_agent.store.database import StoreError, StoreFull
from xds_agent.store.sealing import Sealer, SealError
from xds_agent.store.store import Store

__all__ = ["SealError", "Sealer", "Store", "StoreError", "StoreFull"]
