"""A site moved to ports that are free on this machine, so that a real Envoy can listen."""

from __future__ import annotations

import dataclasses

from tests.support.ports import free_port
from xds_agent.model import Ports, Site


def on_free_ports(site: Site) -> Site:
    """The same site; ports of its own listeners and of its TCP and UDP services are exchanged."""
    own = {key: free_port() for key in ("http", "https", "grpc")}
    moved: dict[int, int] = {}
    services = []
    for service in site.edge.services:
        listen = service.listen
        if service.protocol in ("tcp", "udp") and listen is not None and listen.port is not None:
            port = moved.setdefault(listen.port, free_port())
            service = service.model_copy(update={"listen": listen.model_copy(update={"port": port})})
        services.append(service)
    edge = site.edge.model_copy(
        update={
            "ports": Ports.model_construct(**{**site.edge.ports.model_dump(), **own}),
            "services": tuple(services),
        }
    )
    return dataclasses.replace(site, edge=edge)
