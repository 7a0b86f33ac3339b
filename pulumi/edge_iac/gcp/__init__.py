"""Google Cloud."""

from edge_iac.gcp.program import GcpProgram

__all__ = ["GcpProgram"]
