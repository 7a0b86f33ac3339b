"""What is to be made for a site, before any cloud is asked."""

from edge_iac.plan.build import plan_site
from edge_iac.plan.model import Host, Mesh, Networks, Plan, Probes, Region, Roles, Rule, Subnet, roles_of

__all__ = [
    "Host",
    "Mesh",
    "Networks",
    "Plan",
    "Probes",
    "Region",
    "Roles",
    "Rule",
    "Subnet",
    "plan_site",
    "roles_of",
]
