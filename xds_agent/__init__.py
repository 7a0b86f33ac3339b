"""MarchProxy: the control plane (serve) and the node agent (node)."""

import os

__version__ = "0.1.0"

# gRPC's fork handlers start its threads again in the child, which now and then crash there before the program
# is executed: a shadow's Envoy that ends without a word. We fork only to execute. Read when grpc is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
