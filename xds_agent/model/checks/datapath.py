"""The datapath: services that XDP serves, and what the packet filter may never shut out."""

import contextlib
import ipaddress
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from xds_agent.model.base import is_dns_name
from xds_agent.model.checks.context import Context
from xds_agent.model.checks.networks import network_mistake
from xds_agent.model.edge import Edge
from xds_agent.model.known_networks import probe_networks
from xds_agent.model.ports import NAT_PORTS
from xds_agent.model.protection import Protection
from xds_agent.model.services import Service
from xds_agent.model.site import Host
from xds_agent.model.tiers import tier_of

Network = IPv4Network | IPv6Network
# Their load balancers leave a packet's destination as it was: hosts have that address, with XDP or without.
_KEEP_DESTINATION = frozenset({"gcp"})
_DATAPATH_ONLY = ("tier", "forward", "hash_by", "when_no_real", "packet_limit")


def check_datapath(context: Context) -> None:
    """Runs all checks of this file."""
    for index, service in enumerate(context.edge.services):
        if not context.whole("services", index):
            continue
        path = context.label("services", index)
        if service.is_http:
            _check_http(context, path, service)
        elif service.listen is not None:
            _check_service(context, path, service)
    _check_vips(context)
    _check_protection(context)


def _check_http(context: Context, path: str, service: Service) -> None:
    for key in _DATAPATH_ONLY:
        if key in service.model_fields_set:
            fix = "remove it; requests are limited by rate_limit" if key == "packet_limit" else "remove it"
            context.add(f"{path}.{key}", f"has no meaning: protocol is {service.protocol}", fix)
    if service.listen is not None and service.listen.address == "vip":
        fix = "remove it: Envoy answers on every address of the hosts, the vip among them"
        context.add(f"{path}.listen.address", f"has no meaning: protocol is {service.protocol}", fix)


def _check_service(context: Context, path: str, service: Service) -> None:
    assert service.listen is not None
    by_vip = service.listen.address == "vip"
    carriers = [host for host in context.site.carriers(service, "l4") if host.interfaces]
    if service.protocol == "icmp":
        _check_icmp(context, path, service)
    if (by_vip or service.tier == "l4") and not carriers:
        key = "listen.address" if by_vip else "tier"
        fix = "give a host of group l4 that carries its tenant the variable xdp_interfaces"
        context.add(f"{path}.{key}", f"no host with a datapath carries tenant {service.tenant}", fix)
        return
    if tier_of(context.site, service).kind == "xdp":
        _check_one_interface(context, path, service, carriers)
    if service.tier == "l4" and (needs := service.needs_proxy) is not None:
        field, why = needs
        context.add(f"{path}.{field}", f"needs a proxy ({why}), and tier is l4", f"remove {field}, or tier")
    port = service.listen.port
    if service.tier != "l7" and port in NAT_PORTS and carriers:
        words = f"{port} is among the ports of nat ({NAT_PORTS.start} to {NAT_PORTS.stop - 1})"
        context.add(f"{path}.listen.port", words, f"choose a port below {NAT_PORTS.start}")
    if service.forward == "dsr":
        _check_dsr(context, path, service, {host.cloud for host in carriers})
    if service.forward != "nat":
        _check_same_port(context, path, service)
    elif service.hash_by == "addresses":
        fix = "write forward: gue or dsr, or remove hash_by; fragments of nat services follow their first one"
        context.add(f"{path}.hash_by", "nat translates ports, so it chooses by them", fix)


def _check_one_interface(context: Context, path: str, service: Service, carriers: Iterable[Host]) -> None:
    """XDP sends what it balances by the interface it came by; out of another one's sight it would be lost."""
    for host in carriers:
        if len(host.interfaces) > 1:
            words = f"clients and backends share one interface, and xdp_interfaces of {host.name} names "
            fix = "name the one of both, or write tier: l7"
            context.add(f"{path}.listen", f"{words}{', '.join(host.interfaces)}", fix)
            return


def _check_icmp(context: Context, path: str, service: Service) -> None:
    assert service.listen is not None
    if service.listen.address != "vip":
        fix = "write listen: {address: vip}"
        context.add(f"{path}.listen.address", "icmp answers for a vip, never for the hosts themselves", fix)
        return
    for host in context.site.carriers(service, "l4"):
        if host.interfaces and host.vip is None:
            fix = f"give host {host.name} the variable vip"
            words = (
                f"host {host.name} has no vip of its own: its own address would answer pings of the service"
            )
            context.add(f"{path}.listen.address", words, fix)


def _check_dsr(context: Context, path: str, service: Service, clouds: set[str | None]) -> None:
    """Whether a backend is on the same link only the host knows; in another cloud it is on none."""
    for one in context.site.endpoints_of(service):
        if {one.cloud or None} != clouds:
            fix = "use forward: nat, or keep it to the backends of one link"
            words = f"dsr works on one link only, and {one.address} is in {one.cloud or 'no cloud'}"
            context.add(f"{path}.forward", words, fix)
            return


def _check_same_port(context: Context, path: str, service: Service) -> None:
    """Without address translation the backend gets the very packet, its port too."""
    assert service.listen is not None
    for at, endpoint in enumerate(service.endpoints):
        if service.listen.port is not None and endpoint.port != service.listen.port:
            words = (
                f"{service.forward} keeps port {service.listen.port}, the backend listens on {endpoint.port}"
            )
            context.add(f"{path}.endpoints[{at}].port", words, "use the same port, or forward: nat")


def _check_vips(context: Context) -> None:
    owners: dict[str, Host] = {}
    for name in sorted(context.hosts):
        host = context.hosts[name]
        if host.vip is None:
            continue
        vip = host.vip
        owner = owners.setdefault(vip, host)
        if owner is not host and not _behind_one_balancer(owner, host):
            fix = "each host has a vip of its own, unless it shares a load balancer with hosts of its region"
            context.add(f"hosts.{name}.vip", f"{vip} is the vip of {owner.name} already", fix)
        other = next((one.name for one in context.hosts.values() if one.address == vip), None)
        if other is not None and other != name:
            context.add(f"hosts.{name}.vip", f"{vip} is the address of {other}", "choose another address")
        if not host.has_datapath and host.cloud not in _KEEP_DESTINATION:
            fix = "put it into group l4 and give it xdp_interfaces, or remove vip"
            context.add(f"hosts.{name}.vip", f"has no meaning: {name} has no datapath", fix)


def _behind_one_balancer(one: Host, other: Host) -> bool:
    place = (one.cloud, one.region)
    return place == (other.cloud, other.region) and None not in place


def _check_protection(context: Context) -> None:
    protection = context.edge.protection
    if protection is None:
        return
    deny = dict(_networks(protection.deny))
    for key in ("operators", "deny_anyway"):
        for at, text in enumerate(getattr(protection, key)):
            if (mistake := network_mistake(text)) is not None:
                why, fix = mistake
                context.add(f"protection.{key}[{at}]", f"'{text}' {why}", fix)
    meant = set(protection.deny_anyway)
    for at, text in enumerate(protection.deny_anyway):
        if text not in protection.deny:
            fix = "remove it, or write it under deny too"
            context.add(f"protection.deny_anyway[{at}]", f"{text} is not denied", fix)
    if not deny:
        return
    inside = sorted(_addresses(context.edge, context.hosts))
    clouds = {host.cloud for host in context.hosts.values()}
    for at, text in enumerate(protection.deny):
        network = deny.get(text)
        if network is None or text in meant:
            continue
        if found := _operators(protection, network) or _within(network, inside) or _probes(network, clouds):
            fix = f"take it out; if it is meant, name {text} under protection.deny_anyway too"
            context.add(f"protection.deny[{at}]", f"{text} {found}", fix)


def _networks(texts: Iterable[str]) -> Iterator[tuple[str, Network]]:
    for text in texts:
        try:
            yield text, ipaddress.ip_network(text)
        except ValueError:
            # Said by the check of networks.
            continue


def whom_it_shuts_out(edge: Edge, hosts: Mapping[str, Host], network: Network) -> str:
    """Whom a host needs and denying `network` would shut out, as "contains host edge1 (10.0.0.1)"."""
    operators = _operators(edge.protection, network) if edge.protection is not None else ""
    inside = operators or _within(network, sorted(_addresses(edge, hosts)))
    return inside or _probes(network, {host.cloud for host in hosts.values()})


def _operators(protection: Protection, network: Network) -> str:
    for name, one in _networks(protection.operators):
        if _meet(network, one):
            how = "lies within" if network.prefixlen > one.prefixlen else "contains"
            return f"{how} operators' network {name}"
    return ""


def _probes(network: Network, clouds: Iterable[str | None]) -> str:
    """A denial that is wider leaves them exempt: the longest prefix decides."""
    for name, one in _networks(probe_networks(clouds)):
        if one.version == network.version and network.subnet_of(one):  # type: ignore[arg-type]
            return f"is among health probes and metadata of a cloud in use ({name})"
    return ""


def _addresses(edge: Edge, hosts: Mapping[str, Host]) -> Iterator[tuple[int, int, str]]:
    """(IP version, address, whose it is in words) of everybody a host cannot do without."""
    for name in sorted(hosts):
        host = hosts[name]
        for text in dict.fromkeys((host.address, host.private_address, host.interconnect_endpoint)):
            yield from _address(text, f"host {name}")
    for service in edge.services:
        for endpoint in service.endpoints:
            yield from _address(endpoint.address, f"a backend of {service.name}")


def _address(text: str | None, whose: str) -> Iterator[tuple[int, int, str]]:
    if text is None or is_dns_name(text):
        return
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(text)
        yield address.version, int(address), f"{whose} ({text})"


def _within(network: Network, addresses: list[tuple[int, int, str]]) -> str:
    """The first of the (sorted) addresses that lies in the network, in words, or ""."""
    first = (int(network.version), int(network.network_address), "")
    at = bisect_left(addresses, first)
    if at == len(addresses):
        return ""
    version, address, words = addresses[at]
    inside = version == network.version and address <= int(network.broadcast_address)
    return f"contains {words}" if inside else ""


def _meet(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
