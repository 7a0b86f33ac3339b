"""Who may reach what, as far as a site file can say it wrongly."""

from collections import Counter

from edge_iac.site.front import MOST_PORTS, added_ports, front_ports, is_fronted
from edge_iac.site.model import Reach, Site
from edge_iac.site.names import OWN_RULES
from edge_iac.site.places import Add, regions_of
from edge_iac.site.values import INTERNET, span_of, whole_internet
from xds_agent.model.ports import SSH_PORT
from xds_agent.model.words import instead_of

ROLES = ("ingress", "egress", "control", "observability", "workload")
INNER = frozenset({"control", "observability", "workload"})
"""Roles whose hosts have no public address."""
# Said by the inventory alone: no security rule and no balancer comes of them.
PORTS_OF_THE_INVENTORY = ("family", "envoy_admin")


def check_reach(site: Site, add: Add) -> None:
    """Calls ``add`` for what is wrong about logins, rules and ports."""
    _check_ssh(site, add)
    for name, count in Counter(rule.name for rule in site.reach).items():
        if count > 1:
            add(f"reach[{name}]", f"{count} rules are called '{name}'", "give each its own name")
    for rule in site.reach:
        _check_rule(site, rule, add)
    _check_front(site, add)
    for key in PORTS_OF_THE_INVENTORY:
        if key in site.ports.model_fields_set:
            fix = "write it under ports of the inventory's edge.yml"
            add(f"ports.{key}", "changes nothing in a site file", fix)


def _check_ssh(site: Site, add: Add) -> None:
    for index, source in enumerate(site.ssh.sources):
        if source != INTERNET and "/" not in source:
            fix = "write a range such as 198.51.100.0/24"
            add(f"ssh.sources[{index}]", f"'{source}' is not a range", fix)
    _check_jump(site, add)
    if site.ssh.open or not whole_internet(site.ssh.sources):
        return
    fix = "name the ranges you log in from, or say open: true if you mean it"
    alone = [index for index, source in enumerate(site.ssh.sources) if whole_internet([source])]
    for index in alone:
        add(f"ssh.sources[{index}]", f"{site.ssh.sources[index]} opens SSH to everybody", fix)
    if not alone:
        add("ssh.sources", f"{', '.join(site.ssh.sources)} together open SSH to everybody", fix)


def _check_jump(site: Site, add: Add) -> None:
    """A way in through hosts that are not there, or that nobody reaches, is none."""
    jump = site.ssh.jump
    if jump is None:
        return
    opened = any(
        rule.protocol == "tcp" and jump in rule.targets and any(_holds(span, SSH_PORT) for span in rule.ports)
        for rule in site.reach
    )
    if not site.ssh.sources and not opened:
        fix = "name the ranges you log in from under ssh.sources, or leave jump out"
        add("ssh.jump", f"nobody reaches the {jump} hosts that one would log in through", fix)
    for _, region, one, path in regions_of(site):
        roles = {pool.role for pool in one.hosts.values()}
        if roles & INNER and jump not in roles:
            inner = ", ".join(sorted(roles & INNER))
            fix = f"add a pool with role: {jump} there, or leave ssh.jump out and bring a way of your own"
            add(f"{path}.hosts", f"{region} has no {jump} host to log in through to {inner}", fix)


def _check_rule(site: Site, rule: Reach, add: Add) -> None:
    path = f"reach[{rule.name}]"
    if rule.name in OWN_RULES:
        add(
            f"{path}.name", f"'{rule.name}' is what a rule of the edge's own is called", "choose another name"
        )
    for index, source in enumerate(rule.sources):
        if "/" not in source and source not in (INTERNET, *ROLES):
            fix = instead_of(source, (INTERNET, *ROLES), "sources")
            add(f"{path}.sources[{index}]", f"'{source}' is no role", fix)
    if rule.protocol == "icmp" and rule.ports:
        add(f"{path}.ports", "icmp has no ports", "leave ports out")
    if rule.protocol != "icmp" and not rule.ports:
        add(f"{path}.ports", f"{rule.protocol} needs ports", "add ports: [443]")
    ssh = rule.protocol == "tcp" and any(_holds(span, SSH_PORT) for span in rule.ports)
    if ssh and not site.ssh.open and whole_internet(rule.sources):
        fix = "leave port 22 out; ssh.sources says who may log in"
        add(f"{path}.ports", "opens SSH to everybody", fix)


def _holds(span: str, port: int) -> bool:
    first, last = span_of(span)
    return first <= port <= last


def _check_front(site: Site, add: Add) -> None:
    """What is open to everybody on ingress hosts goes through the balancer, port by port."""
    # One listener of AWS takes a port's tcp and its udp.
    count = len({port for _, port in front_ports(site)})
    if not is_fronted(site) or count <= MOST_PORTS:
        return
    # The rule with the most of them is the one to look at.
    widest = max(site.reach, key=lambda rule: sum(1 for _ in added_ports(rule)))
    add(
        f"reach[{widest.name}].ports",
        f"load balancers would take {count} ports from the internet, and take {MOST_PORTS}",
        "open fewer ports, name the ranges of clients as sources, or say load_balancer: false",
    )
