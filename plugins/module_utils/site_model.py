"""The model on the controller: what is wrong with a document, and what a first run would create.

Controller only: needs pydantic and the xds_agent package, which lies at the repository's root.
"""

from __future__ import annotations

import sys
from pathlib import Path


class ModelMissing(Exception):
    """The controller's Python lacks what the model needs; the words say how to install it."""


def _model():
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.append(root)
    try:
        from xds_agent import model
    except ImportError as error:
        raise ModelMissing(
            f"{error} ({sys.executable}): install the controller's requirements with "
            "`pip install -r requirements/controller.txt`"
        ) from error
    return model


def check(document):
    """Every problem of the document as dictionaries; none means it is valid.

    Without pydantic on the controller nothing is checked here: control checks everything again.
    """
    try:
        model = _model()
    except ModelMissing:
        return []
    try:
        site = model.load_site(document)
    except model.ModelError as error:
        return [problem.as_dict() for problem in error.problems]
    return [problem.as_dict() for problem in _probe_problems(site)]


def _probe_problems(site):
    """Hosts that would have to probe more than their budget."""
    from xds_agent.steering.budget import probe_problems
    from xds_agent.steering.site import scene_of

    return probe_problems(scene_of(site))


def notes(document):
    """What a valid document says and this version does not act on."""
    return [note.render() for note in _model().load_site(document).not_acted_on]


def first_change(document):
    """{lines, summary, notes}: what a valid document would create where nothing is yet."""
    model = _model()
    site = model.load_site(document)
    proxies = sorted(host.name for host in site.hosts.values() if host.roles & {"ingress", "egress", "l4"})
    lines = []
    for service in site.edge.services:
        carrying = [
            host.name for host in site.hosts_of_role("ingress") if service.tenant in site.tenants_of(host)
        ]
        port = site.edge.listen_port(service)
        where = ", ".join(service.domains) or (f"port {port}" if port else "the edge")
        count = len(site.endpoints_of(service))
        endpoints = f"{count} endpoint" if count == 1 else f"{count} endpoints"
        text = f"service {service.name} ({service.protocol}) is created at {where} with {endpoints}"
        lines.append({"proxies": carrying, "text": text})
    for route in site.edge.routes:
        lines.append({"proxies": [], "text": "a route of {} is created".format(", ".join(route.domains))})
    summary = f"{len(site.edge.services)} services, {len(proxies)} proxies, 0 connections closed"
    return {"lines": lines, "summary": summary, "notes": [note.render() for note in site.not_acted_on]}
