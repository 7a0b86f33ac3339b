"""`python -m xds_agent` is `xds-agent`."""

from xds_agent.cli import main

main()
