"""`python -m edge_iac`: what script/site-plan runs. Needs no SDK of any cloud."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

from edge_iac.cli import main

main()
