"""The datapath as the node agent deals with it: from a revision's resources to programs and maps.

`DatapathLink` is the shell; what a host is to have (`wanted`), its numbers in the maps (`numbers`) and the
rings (`rings`) are pure.
"""

from xds_agent.node.datapath.link import DatapathLink

__all__ = ["DatapathLink"]
