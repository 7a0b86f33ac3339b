"""What the load balancers before ingress hosts take from clients."""

from collections.abc import Iterator, Sequence
from typing import Literal

from edge_iac.site.model import Reach, Site
from edge_iac.site.places import regions_of
from edge_iac.site.values import span_of, whole_internet

MOST_PORTS = 50
"""Listeners that a network load balancer of AWS takes; the others take more."""
WIDEST_SPAN = 16
"""Ports of a span that is taken port by port; every one is a listener and a group of its own in AWS."""
GCP_PORTS_PER_RULE = 5
"""Ports that a forwarding rule of Google Cloud takes."""
OWN_PORTS = 3
"""Those of the proxies themselves, with which `front_ports` begins."""
FrontPort = tuple[Literal["tcp", "udp"], int]


def front_ports(site: Site) -> tuple[FrontPort, ...]:
    """The proxies' own ports, and those the site opens to the internet, each once."""
    own: list[FrontPort] = [("tcp", port) for port in (site.ports.http, site.ports.https, site.ports.grpc)]
    added = [port for rule in site.reach for port in added_ports(rule)]
    return tuple(dict.fromkeys((*own, *added)))


def forwarding_rules(ports: Sequence[FrontPort]) -> dict[str, tuple[FrontPort, ...]]:
    """What a forwarding rule of Google Cloud is called behind its balancer's name -> its ports.

    A rule is made anew for other ports, and no port may stand in two even for a moment. So which rule a port
    is in depends on nothing but itself: 'tcp-1' has the proxies' own, 'udp-7000' those of 7000 to 7004.
    """
    found: dict[str, tuple[FrontPort, ...]] = {}
    for at, (protocol, port) in enumerate(ports):
        first = 1 if at < OWN_PORTS else port - port % GCP_PORTS_PER_RULE
        name = f"{protocol}-{first}"
        found[name] = (*found.get(name, ()), (protocol, port))
    return {name: tuple(sorted(own)) for name, own in found.items()}


def added_ports(rule: Reach) -> Iterator[FrontPort]:
    """Ports that ``rule`` opens to the internet on ingress hosts, as far as balancers take them."""
    for first, last in _opened(rule):
        if rule.protocol != "icmp" and last - first < WIDEST_SPAN:
            for port in range(first, last + 1):
                yield rule.protocol, port


def past_the_front(site: Site) -> Iterator[str]:
    """A sentence for every span that is open to the internet and wider than balancers take."""
    if not is_fronted(site):
        return
    for rule in site.reach:
        for first, last in _opened(rule):
            if last - first >= WIDEST_SPAN:
                wide = f"{first}-{last} is wider than load balancers take ({WIDEST_SPAN} ports)"
                yield f"reach {rule.name}: {wide}; clients reach it at the hosts' own addresses"


def is_fronted(site: Site) -> bool:
    """Whether a load balancer stands before ingress hosts anywhere."""
    return any(
        one.load_balancer and any(pool.role == "ingress" for pool in one.hosts.values())
        for _, _, one, _ in regions_of(site)
    )


def _opened(rule: Reach) -> Iterator[tuple[int, int]]:
    if "ingress" in rule.targets and 4 in whole_internet(rule.sources):
        yield from map(span_of, rule.ports)
