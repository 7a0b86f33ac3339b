"""Listeners: ports that exist, and one owner for each."""

from xds_agent.model.checks.context import Context
from xds_agent.model.ports import SSH_PORT
from xds_agent.model.services import Service

# Which ports stand on one host: those of proxies, and those of control hosts (often the same machine).
_OWN = ("http", "https", "grpc", "agent_metrics", "envoy_admin", "xds", "api")
_PROXY = ("http", "https", "grpc", "agent_metrics", "envoy_admin")


def check_listeners(context: Context) -> None:
    """Own ports are distinct, services have one where they need it, and no two share one by mistake."""
    _check_own(context)
    ports = context.edge.ports
    own = {port: key for key in _PROXY if (port := getattr(ports, key)) is not None}
    taken: dict[tuple[str, str, int], list[int]] = {}
    for index, service in enumerate(context.edge.services):
        if service.listen is None:
            if not service.is_http and context.whole("services", index):
                path = f"{context.label('services', index)}.listen"
                fix = (
                    "add listen: {address: edge, port: ...}"
                    if service.protocol != "icmp"
                    else "add listen: {address: vip}"
                )
                context.add(path, f"is missing: a {service.protocol} service needs it", fix)
            continue
        if not context.whole("services", index):
            continue
        if service.is_http:
            _check_http_listen(context, index, service)
            continue
        port = _checked_port(context, index, service)
        if service.protocol == "icmp" and service.listen.address == "vip":
            taken.setdefault(("icmp", "vip", 0), []).append(index)
        if port is None:
            continue
        if service.protocol == "tcp" and port == SSH_PORT:
            path = f"{context.label('services', index)}.listen.port"
            context.add(path, f"{port} is the way into the hosts (SSH)", "choose another port")
            continue
        if service.protocol == "tcp" and port in own:
            path = f"{context.label('services', index)}.listen.port"
            fix = f"choose another port, or move the proxies' own with ports.{own[port]}"
            context.add(path, f"{port} is the proxies' own port (ports.{own[port]})", fix)
            continue
        taken.setdefault((service.protocol, _address(context, service), port), []).append(index)
    for indices in taken.values():
        if len(indices) > 1:
            _check_sharing(context, indices)
    _check_domain_claims(context)


def _check_own(context: Context) -> None:
    ports = context.edge.ports
    seen: dict[int, str] = {}
    for key in _OWN:
        port = getattr(ports, key)
        if port is None:
            continue
        if port in seen:
            fix = f"choose another port for ports.{key} or ports.{seen[port]}"
            context.add(f"ports.{key}", f"{port} is also ports.{seen[port]}", fix)
        seen.setdefault(port, key)


def _check_http_listen(context: Context, index: int, service: Service) -> None:
    assert service.listen is not None
    path = f"{context.label('services', index)}.listen"
    ports = context.edge.ports
    if service.listen.sni:
        context.add(f"{path}.sni", f"has no meaning: protocol is {service.protocol}", "use domains")
    if service.listen.certificate:
        fix = "remove it; each domain has its own certificate"
        context.add(f"{path}.certificate", f"has no meaning: protocol is {service.protocol}", fix)
    if service.listen.port is not None and service.listen.port not in (ports.https, ports.grpc):
        fix = f"remove listen, or use {ports.https} (ports.https) or {ports.grpc} (ports.grpc)"
        message = f"{service.listen.port} is not a port on which {service.protocol} is served"
        context.add(f"{path}.port", message, fix)


def _checked_port(context: Context, index: int, service: Service) -> int | None:
    assert service.listen is not None
    path = f"{context.label('services', index)}.listen"
    if service.listen.sni and service.protocol != "tcp":
        context.add(f"{path}.sni", f"has no meaning: protocol is {service.protocol}", "remove it")
    _check_certificate(context, path, service)
    if service.protocol == "icmp":
        if service.listen.port is not None:
            context.add(f"{path}.port", "has no meaning: icmp has no ports", "remove it")
        return None
    if service.listen.port is None:
        fix = "add the port clients connect to"
        context.add(f"{path}.port", f"is missing: a {service.protocol} service needs it", fix)
    return service.listen.port


def _check_certificate(context: Context, path: str, service: Service) -> None:
    assert service.listen is not None
    name = service.listen.certificate
    if name is None:
        return
    certificates = context.names("certificates")
    if name not in certificates:
        context.unknown(f"{path}.certificate", "certificate", name, certificates, "certificates")
    if service.protocol != "tcp":
        context.add(f"{path}.certificate", f"has no meaning: protocol is {service.protocol}", "remove it")
    elif service.listen.sni:
        fix = "remove certificate, or sni"
        context.add(f"{path}.certificate", "TLS that is passed through by sni is not opened", fix)


def _check_sharing(context: Context, indices: list[int]) -> None:
    """Services on one port: only TLS names (disjoint), or hosts that never meet, may tell them apart."""
    services = context.edge.services
    for at, index in enumerate(indices):
        service = services[index]
        assert service.listen is not None
        for other_index in indices[:at]:
            other = services[other_index]
            assert other.listen is not None
            if not _meet(context, service, other):
                continue
            path = f"{context.label('services', index)}.listen.port"
            if service.protocol == "icmp":
                words = f"service {other.name} answers pings of the vip already"
                context.add(path.removesuffix(".port"), words, "keep one of them: pings have no ports")
                break
            if not service.listen.sni or not other.listen.sni:
                fix = "choose another port, or give each of them listen.sni"
                context.add(path, f"service {other.name} listens on {service.listen.port} already", fix)
                break
            if shared := set(service.listen.sni) & set(other.listen.sni):
                path = f"{context.label('services', index)}.listen.sni"
                name = sorted(shared)[0]
                context.add(
                    path, f"service {other.name} has {name} on this port already", "use each name once"
                )
                break


def _address(context: Context, service: Service) -> str:
    """`vip` where it meets nobody who listens on every address: XDP's, and each host has one apart."""
    assert service.listen is not None
    by_xdp = service.listen.address == "vip" and service.tier != "l7" and service.needs_proxy is None
    apart = all(host.vip is not None for host in context.site.carriers(service, "l4"))
    return "vip" if by_xdp and apart else "edge"


def _meet(context: Context, one: Service, other: Service) -> bool:
    """True when some proxy may carry both: same tenant, or a host that has both tenants."""
    if one.tenant == other.tenant:
        return True
    wanted = {one.tenant, other.tenant}
    roles = ("ingress", "l4") if _may_be_xdps(one) and _may_be_xdps(other) else ("ingress",)
    hosts = [host for role in roles for host in context.site.hosts_of_role(role)]
    return any(wanted <= context.site.tenants_of(host) for host in hosts)


def _may_be_xdps(service: Service) -> bool:
    """True where a host without Envoy may serve it."""
    assert service.listen is not None
    asked = service.listen.address == "vip" or service.tier == "l4" or service.protocol == "udp"
    return asked and service.tier != "l7" and service.needs_proxy is None


def _check_domain_claims(context: Context) -> None:
    """One service answers for a domain on a port, apart from what routes take out."""
    owner: dict[tuple[str, int | None], str] = {}
    for index, service in enumerate(context.edge.services):
        if not service.is_http:
            continue
        port = context.edge.listen_port(service)
        for at, name in enumerate(service.domains):
            first = owner.setdefault((name, port), service.name)
            if first != service.name:
                path = f"{context.label('services', index)}.domains[{at}]"
                fix = "leave it with one of them and send paths to the other by a route"
                context.add(path, f"service {first} answers for {name} on port {port} already", fix)
