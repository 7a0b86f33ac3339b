"""The policy pack: `pulumi preview --policy-pack pulumi/policy`. Every rule is mandatory."""

import sys
from pathlib import Path

# The rules, and the catalogue's word for what a pinned image is.
_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent), str(_HERE.parents[1])]

from edge_policy.pack import serve  # noqa: E402 - needs the path

serve()
