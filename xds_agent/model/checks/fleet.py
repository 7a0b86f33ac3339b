"""Hosts, mappings, protection, maintenance and rollout."""

import re
from collections.abc import Iterable

from xds_agent.model.base import HOSTNAME_PATTERN
from xds_agent.model.checks.context import Context
from xds_agent.model.checks.networks import network_mistake
from xds_agent.model.tenants import DEFAULT_TENANT

_HOSTNAME = re.compile(rf"(?:\*\.)?{HOSTNAME_PATTERN}")
_LAST_WAVE = "100%"


def check_fleet(context: Context) -> None:
    """Runs all checks of this file."""
    _check_hosts(context)
    _check_mappings(context)
    _check_protection(context)
    _check_maintenance(context)
    _check_rollout(context)
    _check_limits(context)


def _check_hosts(context: Context) -> None:
    tenants = context.names("tenants") | {DEFAULT_TENANT}
    for name, host in context.hosts.items():
        for at, tenant in enumerate(host.tenants or ()):
            if tenant not in tenants:
                context.unknown(f"hosts.{name}.tenants[{at}]", "tenant", tenant, tenants, "tenants")


def _is_network(text: str) -> bool:
    return network_mistake(text) is None


def _check_mappings(context: Context) -> None:
    tenants = context.names("tenants") | {DEFAULT_TENANT}
    services = context.names("services")
    for index, mapping in enumerate(context.edge.mappings):
        path = context.label("mappings", index)
        if mapping.tenant not in tenants:
            context.unknown(f"{path}.tenant", "tenant", mapping.tenant, tenants, "tenants")
        for at, source in enumerate(mapping.sources):
            if source not in services and not _is_network(source):
                context.unknown(f"{path}.sources[{at}]", "service or network", source, services, "services")
        for at, target in enumerate(mapping.destinations):
            if target in services or _is_network(target) or _HOSTNAME.fullmatch(target):
                continue
            fix = "write a service, a DNS name such as api.example.com, or a network such as 10.1.0.0/16"
            context.add(f"{path}.destinations[{at}]", f"'{target}' is not a destination", fix)
        if not context.whole("mappings", index):
            continue
        portless = set(mapping.protocols) == {"icmp"}
        if portless and mapping.ports:
            context.add(f"{path}.ports", "has no meaning: icmp has no ports", "remove it")
        elif not portless and not mapping.ports:
            context.add(f"{path}.ports", "is missing", "add the ports it may reach, for example [443]")


def _check_networks(context: Context, path: str, networks: Iterable[str]) -> None:
    for at, network in enumerate(networks):
        if (mistake := network_mistake(network)) is not None:
            why, fix = mistake
            context.add(f"{path}[{at}]", f"'{network}' {why}", fix)


def _check_protection(context: Context) -> None:
    protection = context.edge.protection
    if protection is None:
        return
    _check_networks(context, "protection.deny", protection.deny)
    _check_networks(context, "protection.allow", protection.allow)
    both = set(protection.deny) & set(protection.allow)
    for network in sorted(both):
        at = protection.deny.index(network)
        context.add(f"protection.deny[{at}]", f"{network} is also allowed", "remove one of the two")


def _check_maintenance(context: Context) -> None:
    clouds = {host.cloud for host in context.hosts.values() if host.cloud}
    clouds |= {e.cloud for service in context.edge.services for e in service.endpoints if e.cloud}
    for index, window in enumerate(context.edge.maintenance):
        path = context.label("maintenance", index)
        if not context.whole("maintenance", index):
            continue
        if not (window.cloud or window.region or window.zone or window.host):
            context.add(path, "does not say what is out", "add cloud, region, zone or host")
        if window.host is not None and window.host not in context.hosts:
            context.unknown(f"{path}.host", "host", window.host, context.hosts, "hosts")
        if window.cloud is not None and window.cloud not in clouds:
            context.unknown(f"{path}.cloud", "host or endpoint in cloud", window.cloud, clouds, "clouds")
        if window.since is not None and window.since >= window.until:
            context.add(f"{path}.until", "is not after since", "exchange them")


def _check_rollout(context: Context) -> None:
    rollout = context.edge.rollout
    if context.whole("rollout") and rollout.waves[-1] != _LAST_WAVE:
        at = len(rollout.waves) - 1
        fix = f'end the waves with "{_LAST_WAVE}"'
        context.add(
            f"rollout.waves[{at}]",
            f"the last wave is {rollout.waves[at]}: some proxies never get the change",
            fix,
        )


def _check_limits(context: Context) -> None:
    limits = context.edge.limits
    for key in ("handshake_timeout", "headers_timeout", "stream_idle_timeout", "connection_idle_timeout"):
        if not getattr(limits, key):
            context.add(
                f"limits.{key}", "must be longer than 0: a silent client would hold it for ever", "write 5s"
            )
