"""model -> resources: pure functions, one file per kind of resource; same input, same bytes.

`Compiler().compile(site, material)` gives a `Compiled`: views of all hosts, and a snapshot for each view.
"""

from xds_agent.compile.compiled import Compiled
from xds_agent.compile.compiler import Compiler
from xds_agent.compile.maintenance import next_change
from xds_agent.compile.material import CompileError, KeyPair, Material, Trust
from xds_agent.compile.views import View, view_of

__all__ = [
    "CompileError",
    "Compiled",
    "Compiler",
    "KeyPair",
    "Material",
    "Trust",
    "View",
    "next_change",
    "view_of",
]
