"""Checks of meaning: what no single field can see. One file per concern; each adds every problem it finds."""

from xds_agent.model.checks.cloud_rules import check_cloud_rules
from xds_agent.model.checks.context import Context
from xds_agent.model.checks.datapath import check_datapath
from xds_agent.model.checks.domains import check_certificates, check_domains
from xds_agent.model.checks.fleet import check_fleet
from xds_agent.model.checks.listeners import check_listeners
from xds_agent.model.checks.names import check_duplicates
from xds_agent.model.checks.routes import check_routes
from xds_agent.model.checks.services import check_services

_ALL = (
    check_duplicates,
    check_certificates,
    check_domains,
    check_services,
    check_listeners,
    check_routes,
    check_datapath,
    check_fleet,
    check_cloud_rules,
)


def run_checks(context: Context) -> None:
    """Runs every check; problems go to ``context.add``."""
    for check in _ALL:
        check(context)
