"""Resources of the L3/L4 tier: services and their reals, access lists, protection of the host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from xds_agent.compile.endpoints import load_assignment
from xds_agent.compile.inputs import Settled
from xds_agent.compile.maintenance import Windows
from xds_agent.model import QOS_CLASSES, Health, ResolvedEndpoint, Service, Site, is_dns_name
from xds_agent.model.known_networks import probe_networks
from xds_agent.model.tiers import Tier
from xds_agent.proto import datapath_pb2 as pb
from xds_agent.snapshot.resource import ACCESS_LIST, DATAPATH_SERVICE, PROTECTION, REALS, Resource
from xds_agent.steering.deciding import Share

PROTECTION_NAME = "protection"
_PROTOCOLS = {"tcp": pb.TCP, "udp": pb.UDP, "icmp": pb.ICMP}
_FORWARDS = {"nat": pb.NAT, "dsr": pb.DSR, "gue": pb.GUE}
_MILLISECOND = timedelta(milliseconds=1)
Denial = tuple[str, int]
"""A network denied by hand, and until when (Unix time)."""


def service_resource(service: Service, tier: Tier) -> Resource:
    """What XDP knows of a service, apart from its reals."""
    message = _of_listen(service)
    message.forward = pb.ECHO if tier.kind == "xdp echo" else _FORWARDS[service.forward]
    message.pass_without_real = service.when_no_real == "pass"
    message.hash_addresses = service.hash_by == "addresses"
    if service.health is not None:
        message.health.CopyFrom(_check(service.name, service.health))
    return Resource.of(DATAPATH_SERVICE, service.name, message)


def marked_resource(service: Service) -> Resource | None:
    """What XDP and tc know of a service that Envoy serves on a port of its own; None if nothing is asked of
    them."""
    if not service.has_own_port or not (service.qos_is_given or service.bandwidth or service.packet_limit):
        return None
    message = _of_listen(service)
    message.forward = pb.KERNEL
    if service.bandwidth is not None:
        message.ingress_bits = service.bandwidth.ingress or 0
        message.egress_bits = service.bandwidth.egress or 0
    return Resource.of(DATAPATH_SERVICE, service.name, message)


def http_resource(name: str, port: int) -> Resource:
    """An HTTP listener of Envoy: XDP counts its packets apart, and does nothing else about them."""
    message = pb.Service(name=name, protocol=pb.TCP, port=port, forward=pb.KERNEL)
    return Resource.of(DATAPATH_SERVICE, name, message)


def _of_listen(service: Service) -> Any:
    listen = service.listen
    assert listen is not None
    limit = service.packet_limit
    return pb.Service(
        name=service.name,
        protocol=_PROTOCOLS[service.protocol],
        vip=listen.address == "vip",
        port=listen.port or 0,
        qos=QOS_CLASSES.index(service.qos) + 1 if service.qos_is_given else 0,
        packets_per_second=(limit and limit.packets_per_second) or 0,
        syn_per_second=(limit and limit.syn_per_second) or 0,
    )


def _check(name: str, health: Health) -> Any:
    return pb.HealthCheck(
        type=health.type,
        path=health.path,
        host=health.host or name,
        statuses=sorted(health.statuses),
        port=health.port or 0,
        interval_ms=health.interval // _MILLISECOND,
        timeout_ms=health.timeout // _MILLISECOND,
        unhealthy_after=health.unhealthy_after,
        healthy_after=health.healthy_after,
    )


def reals_resource(
    service: Service, resolved: Sequence[ResolvedEndpoint], windows: Windows,
    shares: Sequence[Share] | None = None,
) -> Resource:  # fmt: skip
    """Backends with weight and priority: what Envoy would be told, without places. `shares`: what steering
    decided for where the host stands."""
    message = pb.Reals(service=service.name)
    assignment = load_assignment(service, resolved, windows, shares)
    for locality in assignment.endpoints:
        total = sum(one.load_balancing_weight.value for one in locality.lb_endpoints) or 1
        for one in locality.lb_endpoints:
            socket = one.endpoint.address.socket_address
            # Shares of clouds are the locality's weight, divided among its backends; at least one each.
            share = one.load_balancing_weight.value * locality.load_balancing_weight.value
            message.reals.add(
                address=ipaddress.ip_address(socket.address).packed,
                port=socket.port_value,
                weight=0 if one.health_status else max(1, share // total),
                priority=locality.priority,
            )
    return Resource.of(REALS, service.name, message)


class ProtectionMemory:
    """Makes the resources every host with a datapath has, and only where something of them differs."""

    def __init__(self) -> None:
        self._made: dict[str, dict[str, Resource]] = {}
        self._made_of: tuple[object, ...] = ()
        self._backends: dict[str, tuple[str, ...]] = {}

    def resources(
        self, site: Site, settled: Settled, denied: tuple[Denial, ...]
    ) -> dict[str, dict[str, Resource]]:
        """By type and name; nothing where no host has a datapath."""
        if not site.datapath_hosts:
            return {}
        moved = settled.places_changed or self._backends.keys() != settled.services.keys()
        for name in settled.services if moved else settled.touched:
            addresses = tuple(_addresses(settled.services[name]))
            if moved or self._backends.get(name) != addresses:
                moved = True
                self._backends[name] = addresses
        made_of = (site.edge.protection, denied)
        if moved or made_of != self._made_of:
            self._backends = {name: self._backends[name] for name in settled.services}
            self._made, self._made_of = protection_resources(site, denied), made_of
        return self._made


def protection_resources(site: Site, denied: Iterable[Denial] = ()) -> dict[str, dict[str, Resource]]:
    """Settings and lists of every host with a datapath, whether or not the inventory asks for protection."""
    protection = site.edge.protection
    settings = pb.Protection()
    deny: tuple[str, ...] = ()
    exempt = {*probe_networks(host.cloud for host in site.hosts.values()), *_own(site)}
    if protection is not None:
        deny = protection.deny
        exempt.update(protection.allow, protection.operators)
        settings.monitor = protection.monitor
        settings.ssh_packets_per_second = protection.ssh_packets_per_second
        settings.cookies_above = protection.syn_cookies_above or 0
        if (flow_log := protection.flow_log) is not None:
            settings.flow_log_one_in = flow_log.one_in
            settings.flow_log_every_ms = flow_log.every // _MILLISECOND
        if (limits := protection.per_source) is not None:
            settings.source_packets_per_second = limits.packets_per_second or 0
            settings.source_syn_per_second = limits.syn_per_second or 0
            settings.source_bits_per_second = limits.bits_per_second or 0
        # What is denied all the same beats what is exempt by construction.
        meant = [ipaddress.ip_network(text) for text in protection.deny_anyway]
        exempt = {text for text in exempt if not _inside(text, meant)}
    lists = [_access_list("deny", deny, denied), _access_list("exempt", sorted(exempt))]
    return {
        PROTECTION: {PROTECTION_NAME: Resource.of(PROTECTION, PROTECTION_NAME, settings)},
        ACCESS_LIST: {one.name: Resource.of(ACCESS_LIST, one.name, one) for one in lists},
    }


def _own(site: Site) -> Iterable[str]:
    """Addresses of the inventory's hosts and of backends: control, tunnel peers, reals and their answers."""
    for host in site.hosts.values():
        for address in (host.address, host.private_address, host.interconnect_endpoint):
            if address is not None and not is_dns_name(address):
                yield address
    for service in site.edge.services:
        yield from _addresses(service)


def _addresses(service: Service) -> Iterator[str]:
    for endpoint in service.endpoints:
        if endpoint.address is not None and not is_dns_name(endpoint.address):
            yield endpoint.address


def _inside(text: str, networks: Iterable[Any]) -> bool:
    network = ipaddress.ip_network(text)
    return any(one.version == network.version and network.subnet_of(one) for one in networks)


def _access_list(name: str, networks: Iterable[str], timed: Iterable[Denial] = ()) -> Any:
    message = pb.AccessList(name=name)
    packed: dict[int, list[bytes]] = {4: [], 6: []}
    for text in networks:
        network = ipaddress.ip_network(text)
        packed[network.version].append(network.network_address.packed + bytes([network.prefixlen]))
    message.ipv4, message.ipv6 = b"".join(sorted(packed[4])), b"".join(sorted(packed[6]))
    for network_text, until in sorted(timed):
        message.timed.add(network=network_text, until=until)
    return message
