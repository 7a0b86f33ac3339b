"""MarchProxy: the control plane (serve) and the node agent (node)."""

__version__ = "0.1.0"
