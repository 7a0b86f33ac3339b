"""`pulumi up -s SITE`: makes the hosts of pulumi/sites/SITE.yaml. docs/clouds.md walks through it."""

import sys
from pathlib import Path

# The site file's errors are worded by the inventory's own model, at the root of the checkout.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from edge_iac.program import run

run()
