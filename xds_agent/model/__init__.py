"""What an inventory says: typed, checked, without I/O.

`load_site` reads a site document (made from the inventory by Ansible) and returns a frozen `Site`, or
raises `ModelError` with every problem at once, each with its path, what is wrong, the fix, file and line.
"""

from xds_agent.model.base import is_dns_name
from xds_agent.model.certificates import SITE_CA, Authority, Certificate
from xds_agent.model.clouds import Cloud, Region
from xds_agent.model.domains import Domain
from xds_agent.model.edge import Edge
from xds_agent.model.endpoints import Endpoint, UpstreamTls
from xds_agent.model.health import Ejection, Health
from xds_agent.model.limits import DSCPS, QOS_CLASSES, Bandwidth, ProxyLimits, RateLimit, ServiceLimits
from xds_agent.model.load import SCHEMA, load_site
from xds_agent.model.maintenance import Maintenance
from xds_agent.model.mappings import Mapping
from xds_agent.model.ports import Ports
from xds_agent.model.problems import ModelError, Problem
from xds_agent.model.protection import FlowLog, PerSource, Protection
from xds_agent.model.rollout import Rollout
from xds_agent.model.routes import Cors, HeaderEdit, HeaderMatch, Mirror, Redirect, Respond, Rewrite, Route
from xds_agent.model.schema import json_schema
from xds_agent.model.secrets import join_secrets, split_secrets
from xds_agent.model.services import Auth, Listen, PacketLimit, Service
from xds_agent.model.site import ROLES, Host, ResolvedEndpoint, Site
from xds_agent.model.steering import Steering
from xds_agent.model.tenants import DEFAULT_TENANT, Logging, Tenant

__all__ = [
    "DEFAULT_TENANT",
    "DSCPS",
    "QOS_CLASSES",
    "ROLES",
    "SCHEMA",
    "SITE_CA",
    "Auth",
    "Authority",
    "Bandwidth",
    "Certificate",
    "Cloud",
    "Cors",
    "Domain",
    "Edge",
    "Ejection",
    "Endpoint",
    "FlowLog",
    "HeaderEdit",
    "HeaderMatch",
    "Health",
    "Host",
    "Listen",
    "Logging",
    "Maintenance",
    "Mapping",
    "Mirror",
    "ModelError",
    "PacketLimit",
    "PerSource",
    "Ports",
    "Problem",
    "Protection",
    "ProxyLimits",
    "RateLimit",
    "Redirect",
    "Region",
    "ResolvedEndpoint",
    "Respond",
    "Rewrite",
    "Rollout",
    "Route",
    "Service",
    "ServiceLimits",
    "Site",
    "Steering",
    "Tenant",
    "UpstreamTls",
    "is_dns_name",
    "join_secrets",
    "json_schema",
    "load_site",
    "split_secrets",
]
