"""Names of what is made: built in one place, so that their limits can be checked before anything is."""

from collections.abc import Iterable, Iterator, Mapping

from edge_iac.site.model import CloudName, Role, Site

# Longest names the clouds take, of the kinds of thing whose names we build from the site's words.
_LIMITS = {
    ("aws", "host"): 255,
    ("aws", "balancer"): 32,
    ("gcp", "host"): 63,
    ("gcp", "balancer"): 63,
    ("gcp", "identity"): 30,
    ("gcp", "rule"): 63,
    ("azure", "host"): 64,
    ("azure", "balancer"): 80,
    ("azure", "rule"): 80,
}
CLOUD_WORDS = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure"}
_LONGEST_SUFFIX = "-65535-tcp"
"""What balancers, their groups and rules carry behind their name, at most."""
ROLE_GROUPS: Mapping[Role, tuple[str, ...]] = {
    "ingress": ("ingress", "l4"),
    "egress": ("egress",),
    "control": ("control",),
    "observability": ("observability",),
    "workload": (),
}
"""Inventory groups of hosts by what they do."""
OWN_RULES = frozenset(
    {"clients", "icmp", "ssh", "jump", "xds", "peers", "scrape", "probes"}
    | {"wireguard", "transit-tcp", "transit-udp"}
)
"""Rules that every site has, or may have: no rule of a site file is called so."""
LONGEST_OWN_RULE = "jump-observability-roles"
"""Of the rules that every site has."""


def host_name(*, pool: str, cloud: str, region: str, number: int) -> str:
    """Name of a host in the inventory: 'edge-aws-us-east-1-1'."""
    return f"{pool}-{cloud}-{region}-{number}"


def cloud_name(site: str, rest: str) -> str:
    """Name of a thing in a cloud: the site's name first, so that several sites share an account."""
    return f"{site}-{rest}"


def balancer_name(site: str, cloud: str, region: str) -> str:
    """AWS takes 32 characters and knows the region; the others need it."""
    return cloud_name(site, "edge" if cloud == "aws" else f"edge-{region}")


def identity_name(site: str, role: str) -> str:
    """Identity of the hosts of a role."""
    return cloud_name(site, {"observability": "observe"}.get(role, role))


def groups_value(cloud: CloudName, role: Role, groups: Iterable[str]) -> str:
    """Groups of a host as the value of its tag: labels of Google Cloud hold no spaces."""
    return ("_" if cloud == "gcp" else " ").join(groups_of(role, groups))


def groups_of(role: Role, groups: Iterable[str]) -> tuple[str, ...]:
    """Inventory groups of a host: those of its role, and those that the site adds, each once."""
    return tuple(dict.fromkeys((*ROLE_GROUPS[role], *groups)))


def too_long(site: Site) -> Iterator[tuple[str, str, str]]:
    """(path, message, fix) for every name that a cloud would refuse for its length."""
    for cloud, said in site.clouds.named().items():
        words = CLOUD_WORDS[cloud]
        for region, one in said.regions.items():
            path = f"clouds.{cloud}.regions.{region}"
            for pool, what in one.hosts.items():
                name = cloud_name(
                    site.name, host_name(pool=pool, cloud=cloud, region=region, number=what.count)
                )
                limit = _LIMITS[cloud, "host"]
                # Interfaces and addresses carry a suffix of their own.
                if len(name) > limit:
                    message = f"'{name}' has {len(name)} characters, {words} takes {limit} for a host"
                    yield f"{path}.hosts.{pool}", message, "shorten the name of the pool or of the site"
                if cloud == "gcp" and len(identity_name(site.name, what.role)) > _LIMITS["gcp", "identity"]:
                    name = identity_name(site.name, what.role)
                    message = f"'{name}' is too long for a service account of {words} (30)"
                    yield "name", message, "shorten the name of the site"
            yield from _long_rules(site, cloud, region)
            balancer = balancer_name(site.name, cloud, region) + _LONGEST_SUFFIX
            if one.load_balancer and len(balancer) > _LIMITS[cloud, "balancer"]:
                message = (
                    f"'{balancer}' is too long for a load balancer of {words} ({_LIMITS[cloud, 'balancer']})"
                )
                yield "name", message, "shorten the name of the site"


def _long_rules(site: Site, cloud: str, region: str) -> Iterator[tuple[str, str, str]]:
    """Google Cloud's rules carry site and region in their names; Azure's lie within a group of their own."""
    limit = _LIMITS.get((cloud, "rule"))
    if limit is None:
        return
    before = f"{cloud_name(site.name, region)}-" if cloud == "gcp" else ""
    own = before + LONGEST_OWN_RULE
    if len(own) > limit:
        message = f"'{own}' is too long for a firewall rule of {CLOUD_WORDS[cloud]} ({limit})"
        yield "name", message, "shorten the name of the site"
    for rule in site.reach:
        longest = max((f"{before}{rule.name}-{target}-roles" for target in rule.targets), key=len)
        if len(longest) > limit >= len(own):
            message = f"'{longest}' is too long for a firewall rule of {CLOUD_WORDS[cloud]} ({limit})"
            yield f"reach[{rule.name}]", message, "shorten the name of the rule"
