"""What control asks of this host now: what Envoy says it holds, open connections, requests through it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.canary import ask_all
from xds_agent.node.config import Tls
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.snapshot.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET

if TYPE_CHECKING:
    from xds_agent.node.datapath import DatapathLink

# Envoy's main thread needs seconds for the configuration of thousands of clusters.
PATIENCE_S = 20.0
OPEN_SESSIONS = r"^udp\..*\.downstream_sess_active$"
_SESSIONS = re.compile(r"^udp\.(?P<prefix>.+)\.downstream_sess_active$")
OPEN_CONNECTIONS = r"^listener\..*\.downstream_cx_active$"
# Each worker counts on its own too; the sum is enough. The admin's own listener counts whoever asks.
_OPEN = re.compile(r"^listener\.(?P<prefix>.+?)\.downstream_cx_active$")
_NO_SUM = re.compile(r"\.(worker_\d+|main_thread)$|^admin$")
_CONFIGURATION = "/config_dump?include_eds"


async def answer(
    question: pb.Question, admin: Admin, tls: Tls, datapath: DatapathLink | None = None
) -> pb.Answer:
    """Never raises: what Envoy does not tell is an answer with words."""
    said = pb.Answer(id=question.id)
    if question.requests:
        said.replies.extend(await ask_all(question.requests, tls))
    if question.flows and datapath is not None:
        said.flows.update(await datapath.open_flows())
    try:
        if question.held:
            said.held.extend(held_resources(json.loads(await admin.get(_CONFIGURATION))))
        if question.connections:
            said.connections.update(by_listener(await admin.gauges(OPEN_CONNECTIONS)))
        if question.flows:
            said.sessions.update(by_service(await admin.gauges(OPEN_SESSIONS)))
            said.sessions_known = True
    except (AdminError, ValueError, KeyError, TypeError) as error:
        said.error = f"its Envoy does not say: {error}"
    return said


def held_resources(dump: Mapping[str, Any]) -> list[pb.HeldResource]:
    """The dynamic resources of a config_dump, sorted by type and name."""
    found = [one for part in dump.get("configs", ()) for one in _of_part(part)]
    return sorted(found, key=lambda one: (one.type_url, one.name))


def _of_part(part: Mapping[str, Any]) -> Iterator[pb.HeldResource]:
    for cluster in part.get("dynamic_active_clusters", ()):
        yield _held(CLUSTER, cluster.get("cluster", {}), cluster)
    for cluster in part.get("dynamic_warming_clusters", ()):
        yield _held(CLUSTER, cluster.get("cluster", {}), cluster, "warming")
    for listener in part.get("dynamic_listeners", ()):
        yield from _listener(listener)
    for table in part.get("dynamic_route_configs", ()):
        yield _held(ROUTES, table.get("route_config", {}), table)
    for secret in part.get("dynamic_active_secrets", ()):
        yield _held(SECRET, secret, secret)
    for secret in part.get("dynamic_warming_secrets", ()):
        yield _held(SECRET, secret, secret, "warming")
    for endpoints in part.get("dynamic_endpoint_configs", ()):
        content = endpoints.get("endpoint_config", {})
        yield pb.HeldResource(
            type_url=ENDPOINTS, name=content.get("cluster_name", ""), endpoints=sorted(_endpoints(content))
        )


def _listener(listener: Mapping[str, Any]) -> Iterator[pb.HeldResource]:
    # One that drains goes by itself; one that warms is not served yet.
    for key, state in (("active_state", ""), ("warming_state", "warming")):
        if part := listener.get(key):
            yield _held(LISTENER, {"name": listener.get("name", "")}, part, state, listener)


def _held(
    type_url: str, content: Mapping[str, Any], part: Mapping[str, Any], state: str = "",
    refused: Mapping[str, Any] | None = None,
) -> pb.HeldResource:  # fmt: skip
    why = (refused or part).get("error_state", {}).get("details", "")
    return pb.HeldResource(
        type_url=type_url, name=content.get("name", ""), version=part.get("version_info", ""), state=state,
        refused=why,
    )  # fmt: skip


def _endpoints(content: Mapping[str, Any]) -> Iterator[str]:
    for locality in content.get("endpoints", ()):
        place = locality.get("locality", {})
        for entry in locality.get("lb_endpoints", ()):
            socket = entry["endpoint"]["address"]["socket_address"]
            yield endpoint_words(
                locality.get("priority", 0), place.get("region", ""), place.get("zone", ""),
                socket["address"], socket["port_value"], entry.get("load_balancing_weight", 1),
                entry.get("health_status", "UNKNOWN"),
            )  # fmt: skip


def endpoint_words(
    priority: int, region: str, zone: str, address: str, port: int, weight: int, health: str
) -> str:
    """One endpoint as HeldResource.endpoints says it; health last, since Envoy finds it out by itself."""
    return f"{priority} {region}/{zone} {address}:{port} {weight} {health}"


def by_listener(gauges: Mapping[str, int]) -> dict[str, int]:
    """Open connections per statistics prefix of a listener, from Envoy's own gauges."""
    return dict(_named(gauges.items()))


def by_service(gauges: Mapping[str, int]) -> dict[str, int]:
    """Open sessions of each service of udp_proxy, whose statistics have its name."""
    return {found["prefix"]: value for name, value in gauges.items() if (found := _SESSIONS.match(name))}


def _named(items: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for name, value in items:
        if (found := _OPEN.match(name)) and not _NO_SUM.search(found["prefix"]):
            yield found["prefix"], value
