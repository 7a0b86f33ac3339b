"""`explain`: which listener, chain, route, cluster and endpoints a request would meet on which proxy.

Read from the compiled resources, the very bytes Envoy gets, with Envoy's own matching rules; the inventory
serves only to say which of its lines are behind each step. So it cannot drift from what Envoy does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xds_agent.explain import datapath, http_walk
from xds_agent.explain.chain_match import chain_for, listener_on
from xds_agent.explain.clusters import backends, shares
from xds_agent.explain.explanation import Backend, Explanation, Step, Verdict
from xds_agent.explain.masking import masker
from xds_agent.explain.origins import Origins
from xds_agent.explain.policies import needs_certificate, refusal, tcp_proxy, udp_cluster
from xds_agent.explain.route_match import NotJudged
from xds_agent.explain.said import listed
from xds_agent.explain.target import BadUrl, Place, Target, place_of, target_of
from xds_agent.model import Site
from xds_agent.snapshot.resource import CLUSTER, DATAPATH_SERVICE, LISTENER, Snapshot

__all__ = ["BadUrl", "Explanation", "UnknownProxy", "explain"]

Outcome = tuple[Verdict, str, int | None, tuple[Backend, ...]]
OriginOf = Callable[[str, str], str | None]
_AT: Mapping[Place, str] = {"vip": "on the vip, ", "own": "on the host's other addresses, "}


class UnknownProxy(ValueError):
    """The proxy asked about is none of the site's."""


def explain(
    site: Site,
    snapshots: Mapping[str, Snapshot],
    url: str,
    *,
    host: str | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    client_certificate: bool = False,
    sni: str | None = None,
    origin_of: OriginOf | None = None,
) -> list[Explanation]:
    """What the request meets, one explanation for each group of proxies that treat it alike.

    `host` asks about one proxy; without it, proxies that listen on nothing (pure L4 or egress hosts) are left
    out. `client_certificate`: the client shows one that its authority signed. Raises BadUrl, UnknownProxy.
    """
    if host is not None and host not in snapshots:
        known = listed(sorted(snapshots)) or "none yet"
        raise UnknownProxy(f"{host} is no proxy of this site; there are: {known}")
    target = target_of(
        url, site.edge.ports, method=method, headers=headers, client_certificate=client_certificate, sni=sni
    )
    walk = _Walk(site, target, Origins(site, origin_of), masker((site,)))
    names: dict[str, list[str]] = {}
    for name in sorted(snapshots) if host is None else [host]:
        if host is not None or any(snapshots[name].of_type(t) for t in (LISTENER, DATAPATH_SERVICE)):
            names.setdefault(snapshots[name].revision, []).append(name)
    found = [one for group in names.values() for one in walk.through(tuple(group), snapshots[group[0]])]
    return _alike(found)


def _alike(found: list[Explanation]) -> list[Explanation]:
    """Explanations that differ in nothing but their proxies, joined."""
    joined: dict[tuple[Any, ...], Explanation] = {}
    for one in found:
        key = (one.verdict, one.sentence, one.steps, one.backends)
        other = joined.get(key)
        proxies = one.proxies if other is None else tuple(sorted((*other.proxies, *one.proxies)))
        joined[key] = Explanation(
            proxies, one.request, one.verdict, one.sentence, one.status, one.steps, one.backends
        )
    return list(joined.values())


class _Walk:
    """One request, led through the resources of one view after another."""

    def __init__(self, site: Site, target: Target, origins: Origins, mask: Callable[[str], str]) -> None:
        self._site = site
        self._target = target
        self._origins = origins
        self._mask = mask

    def through(self, proxies: tuple[str, ...], snapshot: Snapshot) -> list[Explanation]:
        """One, or one each for the vip and the other addresses, where they differ and both may be meant."""
        target = self._target
        by_vip, by_xdp = (
            (None, None) if target.http else datapath.services_on(snapshot, target.port, udp=target.udp)
        )
        listener = listener_on(snapshot.of_type(LISTENER), target.port, udp=target.udp)
        if by_vip is None or (by_xdp is None and listener is None):
            return [self._through(proxies, snapshot, by_vip or by_xdp)]
        asked = place_of(target, self._site.hosts.values())
        places: tuple[tuple[Place, Any | None], ...] = (("vip", by_vip), ("own", by_xdp))
        return [
            self._through(proxies, snapshot, one, _AT[place])
            for place, one in places
            if asked in (None, place)
        ]

    def _through(
        self, proxies: tuple[str, ...], snapshot: Snapshot, by_xdp: Any | None, where: str = ""
    ) -> Explanation:
        steps: list[Step] = []
        verdict: Verdict
        try:
            verdict, sentence, status, found = self._connection(snapshot, by_xdp, steps)
        except NotJudged as error:
            verdict, status, found = "not judged", None, ()
            sentence = f"the configuration goes beyond what explain can judge: {error}"
        masked = tuple(Step(s.kind, s.name, self._mask(s.text), s.path, s.origin) for s in steps)
        text = self._mask(where + sentence)
        return Explanation(proxies, str(self._target), verdict, text, status, masked, found)

    def _connection(self, snapshot: Snapshot, by_xdp: Any | None, steps: list[Step]) -> Outcome:
        target = self._target
        listener = listener_on(snapshot.of_type(LISTENER), target.port, udp=target.udp)
        if by_xdp is not None:
            return self._xdp(by_xdp, snapshot, steps)
        if listener is None:
            kind = "UDP" if target.udp else "TCP"
            return (
                "nothing",
                f"nothing listens on {kind} port {target.port}: the connection is refused",
                None,
                (),
            )
        step = self._origins.of_listener(listener.name, target.port)
        steps.append(Step("listener", listener.name, f"port {target.port}", *step))
        if target.udp:
            return self._udp(listener, snapshot, steps)
        chain = chain_for(listener, sni=target.sni, tls=target.tls)
        asked = f"the name {target.sni}" if target.sni else "no server name"
        if chain is None:
            return "refused", f"no filter chain takes {asked}: the connection is closed", None, ()
        steps.append(
            Step(
                "chain",
                chain.name or "default",
                f"for {asked}" if target.tls else "",
                *self._origins.of_domain(target.sni),
            )
        )
        manager = http_walk.manager_of(chain)
        terminates = bool(chain.transport_socket.name)
        if terminates and not target.tls:
            return (
                "refused",
                "the port speaks TLS and the client does not: the connection is closed",
                None,
                (),
            )
        if manager is not None and target.tls and not terminates:
            return "refused", "the port speaks no TLS: the handshake fails", None, ()
        if needs_certificate(chain) and not target.client_certificate:
            sentence = "the client must show a certificate and has none: the TLS handshake is refused"
            return "refused", sentence, None, ()
        if manager is None:
            return self._stream(chain, snapshot, steps)
        if not target.http:
            return "refused", "the port speaks HTTP; ask with http://, https://, wss:// or grpc://", None, ()
        return self._request(manager, snapshot, steps)

    def _xdp(self, service: Any, snapshot: Snapshot, steps: list[Step]) -> Outcome:
        self._tier(service.name, steps)
        reals = datapath.reals_of(snapshot, service.name)
        return "forwarded", datapath.sentence(service, reals), None, reals

    def _tier(self, name: str, steps: list[Step]) -> None:
        if (step := datapath.tier_step(self._site, name)) is not None:
            steps.append(step)
        self._shaping(name, steps)

    def _shaping(self, name: str, steps: list[Step]) -> None:
        if (step := datapath.shaping_step(self._site, name)) is not None:
            steps.append(step)

    def _udp(self, listener: Any, snapshot: Snapshot, steps: list[Step]) -> Outcome:
        cluster = udp_cluster(listener)
        self._tier(cluster, steps)
        return self._forward(snapshot, [(cluster, 100)], steps, "datagrams go")

    def _stream(self, chain: Any, snapshot: Snapshot, steps: list[Step]) -> Outcome:
        proxy = tcp_proxy(chain)
        if proxy is None:
            return "refused", "the chain forwards nothing: the connection is closed", None, ()
        for name, _ in shares(proxy):
            self._tier(name, steps)
        return self._forward(snapshot, shares(proxy), steps, "the connection goes")

    def _request(self, manager: Any, snapshot: Snapshot, steps: list[Step]) -> Outcome:
        target = self._target
        if why := http_walk.rejected(manager, target):
            return "answered", f"400: {why}", 400, ()
        path = http_walk.normal_path(manager, target.path)
        table = http_walk.route_table(manager, snapshot)
        if table is None:
            return (
                "answered",
                f"404: the proxy does not hold route table {manager.rds.route_config_name}",
                404,
                (),
            )
        host = http_walk.host_of(manager, target)
        found = http_walk.chosen(table, host, target, path)
        if found is None:
            return "answered", f"404: route table {table.name} knows no host {host}", 404, ()
        candidate, domain, route, to_tls = found
        steps.append(Step("domain", domain, f"of route table {table.name}", *self._origins.of_domain(domain)))
        if to_tls:
            return "redirected", f"301 to https://{target.host}{path}", 301, ()
        if route is None:
            return "answered", f"404: no route of {domain} takes {path}", 404, ()
        words = http_walk.match_words(route)
        steps.append(Step("route", words, route.name, *self._origins.of_route(route, domain)))
        if why := refusal(route, candidate, table, certificate=target.client_certificate):
            return "answered", f"403: route {words}: {why}", 403, ()
        return self._act(route, path, snapshot, steps)

    def _act(self, route: Any, path: str, snapshot: Snapshot, steps: list[Step]) -> Outcome:
        kind = route.WhichOneof("action")
        matched = http_walk.matched_text(route)
        if kind == "redirect":
            status = http_walk.redirect_status(route.redirect)
            return (
                "redirected",
                f"{status} to {http_walk.location(route.redirect, self._target, path, matched)}",
                status,
                (),
            )
        if kind == "direct_response":
            status = route.direct_response.status
            why = f": {self._misdirected()}" if status == 421 else ", answered by the edge itself"
            return "answered", f"{status}{why}", status, ()
        if kind != "route":
            raise NotJudged(f"the action {kind}")
        found = shares(route.route)
        if not found:
            raise NotJudged(f"clusters by {route.route.WhichOneof('cluster_specifier')}")
        for one in route.route.weighted_clusters.clusters:
            # A share may be stricter than its route: which of them a request meets is chance.
            if why := refusal(one, certificate=self._target.client_certificate):
                raise NotJudged(f"requests to share {one.name} are answered 403, {why}")
        for name, _ in found:
            self._shaping(name, steps)
        change = http_walk.rewritten(route.route, path, matched)
        return self._forward(
            snapshot, found, steps, "the request goes", f", rewritten to {change}" if change else ""
        )

    def _misdirected(self) -> str:
        """Why the connection's chain does not answer for the host."""
        host, sni = self._target.host, self._target.sni
        if self._origins.of_domain(host)[0] == "":
            return f"{host} is no domain of the site"
        if sni is None:
            return f"the client asked for {host} without a server name in TLS"
        if sni != host:
            return f"the connection was opened for {sni}, and {host} has another TLS policy"
        return f"{host} is not served on port {self._target.port}"

    def _forward(
        self, snapshot: Snapshot, found: list[tuple[str, int]], steps: list[Step], what: str, more: str = ""
    ) -> Outcome:
        everything: list[Backend] = []
        for name, share in found:
            resource = snapshot.of_type(CLUSTER).get(name)
            text = f"{share} %" if len(found) > 1 else ""
            if resource is None:
                text = f"{text} not held by the proxy: 503".strip()
            steps.append(Step("cluster", name, text, *self._origins.of_cluster(name)))
            everything += backends(snapshot, name, share)
        names = ", ".join(f"{share} % {name}" for name, share in found) if len(found) > 1 else found[0][0]
        if not everything:
            return "forwarded", f"{what} to {names}{more}, which has no endpoint: 503", 503, ()
        first = [one for one in everything if one.priority == 0 and not one.health]
        places = list(dict.fromkeys(one.place for one in first if one.place))
        where = f", first to {listed(places)}" if places else ""
        return "forwarded", f"{what} to {names}{more}{where}", None, tuple(everything)
