"""What the API shows: status, history, one revision, explanations. A socket of some tenants sees theirs."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from xds_agent.api.standing import maintenance, pending_words, phase
from xds_agent.compile.maintenance import active
from xds_agent.explain.request import explain
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.rollout import denying, material
from xds_agent.rollout.build import Live
from xds_agent.rollout.change import Conflict, NotEntitled
from xds_agent.rollout.live_diff import differences, listed
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.plan import export
from xds_agent.rollout.skip.parts import SKIPPED
from xds_agent.snapshot.resource import SECRET, Snapshot
from xds_agent.store import StoreError, audit, nodes, revisions
from xds_agent.store.revisions import Stored

_OF_TENANT = ("domains", "services", "mappings")


class View:
    """Reads for one socket; `tenants` None shows everything."""

    def __init__(
        self, pipeline: Pipeline, name: str, tenants: frozenset[str] | None,
        leaderless: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._leaderless = leaderless
        self._name = name
        self._tenants = tenants

    async def status(self) -> dict[str, Any]:
        """The live revision, every proxy, certificates, the audit's end."""
        pipeline = self._pipeline
        live = pipeline.live
        trouble = pipeline.trouble or self._leaderless()
        stored: Stored | None = None
        known: dict[str, dict[str, Any]] = {}
        newest: dict[str, Any] = {}
        try:
            stored, known, newest = await asyncio.to_thread(self._read_status, live.number if live else None)
        except StoreError as error:
            # What is served is known without the database, and just now somebody wants to see it.
            trouble = trouble or str(error)
        ends = material.expiries(live.material) if live else {}
        fleet = {}
        windows = active(live.site, pipeline.now()) if live else ()
        phases = self._phases()
        for name, node in pipeline.publisher.nodes().items():
            if not self._sees_host(name):
                continue
            kept = known.get(name, {})
            snapshot = pipeline.publisher.snapshots[name]
            host = live.site.hosts.get(name) if live else None
            fleet[name] = {
                **node.as_dict(),
                "roles": sorted(host.roles) if host else [],
                "cloud": host.cloud if host else None,
                "phase": phases[name],
                "envoy": pipeline.vitals.envoy_state(name),
                "left_out": pipeline.left_out.get(name, "") if node.state != "active" else "",
                "maintenance": maintenance(host, windows),
                "since": _iso(pipeline.publisher.since.get(name)),
                # With control dead it serves TLS until the first of its certificates ends.
                "survives_until": _iso(_first_end(snapshot, ends)),
                "wanted": snapshot.revision,
                # What it last acknowledged, also when it is away now.
                "revision": node.revision or kept.get("acknowledged", ""),
                "error": self._error(name) or node.error or kept.get("last_error", ""),
                "facts": kept.get("facts", {}),
                "last_seen": kept.get("last_seen"),
                "certificate_until": kept.get("certificate_until"),
            }
        behind = live.behind if live is not None else None
        return {
            "name": self._name,
            "revision": _summary(stored, with_lines=self._tenants is None) if stored else _served(live),
            "trouble": trouble,
            # What skip_bad left out, and nobody has mended yet.
            "skipped": list(live.document.get(SKIPPED, ())) if live and self._tenants is None else [],
            "applying": pipeline.who_applies(),
            "rollout": pipeline.progress.as_dict() if pipeline.progress and self._tenants is None else None,
            "behind": behind.as_dict() if behind is not None and self._tenants is None else None,
            "nodes": fleet,
            "certificates": {
                name: until.isoformat(timespec="seconds")
                for name, until in sorted(ends.items())
                if self._sees_certificate(name)
            },
            "notes": await self._notes() if stored and not self._tenants else [],
            "audit": newest,
        }

    async def _notes(self) -> list[str]:
        """What is not acted on, and what is in force beside the inventory."""
        live = self._pipeline.live
        found = [note.render() for note in live.site.not_acted_on] if live else []
        if live is not None and live.behind is not None:
            found.append(live.behind.words)
        for one in await denying.listed(self._pipeline):
            why = f": {one['reason']}" if one["reason"] else ""
            found.append(
                f"drift: {one['network']} is denied by hand until {one['until']}, by {one['author']}{why}; "
                "what is to stay belongs under protection.deny"
            )
        return found

    async def history(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        def read() -> list[Stored]:
            with self._pipeline.store.read() as session:
                return revisions.history(session, limit, before)

        rows = await asyncio.to_thread(read)
        return [_summary(row, with_lines=self._tenants is None) for row in rows]

    async def revision(self, number: int) -> dict[str, Any] | None:
        """One revision with its document; secrets are references."""

        def read() -> Stored | None:
            with self._pipeline.store.read() as session:
                return revisions.get(session, number)

        stored = await asyncio.to_thread(read)
        if stored is None:
            return None
        document = self._seen(stored.document)
        return {**_summary(stored, with_lines=self._tenants is None), "document": document}

    async def explain(
        self, url: str, *, host: str | None, method: str, headers: Mapping[str, str], client_certificate: bool
    ) -> dict[str, Any]:
        """What a request would meet. Raises Conflict when nothing is live, NotEntitled for others' names."""
        live = self._pipeline.live
        if live is None:
            raise Conflict("nothing is live yet", "run playbooks/routes.yml first")
        if self._tenants is not None:
            name = (headers.get("host") or urlsplit(url).hostname or "").lower()
            domain = live.site.edge.domain_by_name.get(name)
            if domain is None or domain.tenant not in self._tenants:
                raise NotEntitled(f"{name} is no domain of this socket's tenants", "ask its owner")
        found = explain(
            live.site, live.snapshots, url, host=host, method=method, headers=dict(headers),
            client_certificate=client_certificate,
            origin_of=live.compiled.origin_of,
        )  # fmt: skip
        views = self._pipeline.publisher.nodes()
        asked = {name for one in found for name in one.proxies}
        pending = dict(pending_words(views, self._phases()))
        return {
            "explanations": [one.as_dict() for one in found],
            "pending": {name: words for name, words in pending.items() if name in asked},
        }

    def live(self) -> dict[str, Any]:
        """What is live, without a secret. Raises Conflict when nothing is, NotEntitled for a part of it."""
        if self._tenants is not None:
            raise NotEntitled("what is live is of all tenants", "use the socket of all tenants")
        if self._pipeline.live is None:
            raise Conflict("nothing is live yet", "run playbooks/routes.yml first")
        return export(self._pipeline.live)

    async def node(self, name: str) -> dict[str, Any]:
        """One proxy and every resource it is to hold. Raises Conflict for a name that is no proxy's."""
        snapshot = self._snapshot(name)
        live = self._pipeline.live
        status = await self.status()
        origins: dict[tuple[str, str], str] = {}
        if live is not None:
            origins = {
                (type_url, one): live.compiled.origin_of(type_url, one)
                for type_url, named in snapshot.resources.items()
                for one in named
            }
        listing = listed(snapshot, origins)
        for one in listing:
            one["origin"] = (live.site.origin(one["path"]) or "") if live is not None else ""
        return {"name": name, **status["nodes"][name], "resources": listing}

    async def diff(self, name: str) -> dict[str, Any]:
        """What its Envoy holds, against what it is believed to hold. Raises Conflict when it does not say."""
        believed = self._snapshot(name)
        if not self._serves_only_mine(name):
            raise NotEntitled(
                f"{name} serves other tenants too, and a difference may be theirs",
                "use the socket of all tenants",
            )
        node = self._pipeline.publisher.nodes()[name]
        if node.state == "offline":
            raise Conflict(f"{name} is offline", f"on {name}: systemctl status xds-agent-node")
        answers = await self._pipeline.questions.ask([name], pb.Question(held=True))
        answer = answers.get(name)
        if answer is None:
            raise Conflict(
                f"the agent of {name} gave no answer",
                "it may be older than this control: playbooks/upgrade.yml",
            )
        if answer.error:
            raise Conflict(f"{name}: {answer.error}", f"on {name}: systemctl status envoy")
        found = differences(believed, answer.held)
        return {
            "name": name, "state": node.state, "wanted": believed.revision, "revision": node.revision,
            "held": len(answer.held), "differences": [one.as_dict() for one in found],
        }  # fmt: skip

    def _snapshot(self, name: str) -> Snapshot:
        snapshot = self._pipeline.publisher.snapshots.get(name)
        if snapshot is None or not self._sees_host(name):
            raise Conflict(f"{name} is no proxy of the live revision", "`xds-agent status` lists them")
        return snapshot

    def _phases(self) -> dict[str, str]:
        pipeline = self._pipeline
        return {
            name: phase(name, view, pipeline.progress, pipeline.vitals.envoy_state(name), pipeline.left_out)
            for name, view in pipeline.publisher.nodes().items()
        }

    def _error(self, name: str) -> str:
        refusal = self._pipeline.publisher.refusals.get(name)
        return self._pipeline.words_of(refusal) if refusal is not None else ""

    async def audit(self, limit: int) -> dict[str, Any]:
        """The newest rows and whether the whole chain holds."""

        def read() -> dict[str, Any]:
            with self._pipeline.store.read() as session:
                rows = [
                    {"seq": r.seq, "at": r.at, "actor": r.actor, "action": r.action, "subject": r.subject,
                     "detail": r.detail, "hash": r.hash}
                    for r in audit.newest(session, limit)
                ]  # fmt: skip
                return {"rows": rows, "broken": audit.verify_chain(session)}

        return await asyncio.to_thread(read)

    def _read_status(self, number: int | None) -> tuple[Stored | None, dict[str, Any], dict[str, Any]]:
        with self._pipeline.store.read() as session:
            stored = revisions.get(session, number) if number is not None else None
            last = audit.newest(session, 1)
            end = {"rows": last[0].seq, "hash": last[0].hash} if last else {"rows": 0, "hash": ""}
            return stored, nodes.all_nodes(session), end

    def _sees_host(self, name: str) -> bool:
        live = self._pipeline.live
        if self._tenants is None:
            return True
        host = live.site.hosts.get(name) if live else None
        return host is not None and live is not None and bool(live.site.tenants_of(host) & self._tenants)

    def _serves_only_mine(self, name: str) -> bool:
        """Whether nothing of other tenants is on this host."""
        live = self._pipeline.live
        if self._tenants is None or live is None:
            return self._tenants is None
        edge = live.site.edge
        owners = {one.tenant for one in edge.services} | {one.tenant for one in edge.domains}
        owners |= {one.tenant for one in edge.mappings}
        return owners & live.site.tenants_of(live.site.hosts[name]) <= self._tenants

    def _sees_certificate(self, name: str) -> bool:
        live = self._pipeline.live
        if self._tenants is None:
            return True
        domains = live.site.edge.domains if live else ()
        return any(d.certificate == name and d.tenant in self._tenants for d in domains)

    def _seen(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._tenants is None:
            return document
        edge = document.get("edge", {})
        mine = {
            key: [one for one in edge.get(key, []) if one.get("tenant", "default") in self._tenants]
            for key in _OF_TENANT
        }
        names = {one.get("name") for one in mine["domains"]}
        mine["routes"] = [r for r in edge.get("routes", []) if names.issuperset(r.get("domains", ()))]
        return {"schema": document.get("schema"), "edge": mine, "hosts": {}}


def _first_end(snapshot: Snapshot, ends: Mapping[str, dt.datetime]) -> dt.datetime | None:
    names = (name.removeprefix("certificate/") for name in snapshot.of_type(SECRET))
    return min((ends[name] for name in names if name in ends), default=None)


def _iso(when: dt.datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None


def _served(live: Live | None) -> dict[str, Any] | None:
    """What is live where the database that holds the rest does not answer."""
    return {"number": live.number, "revision": live.id} if live is not None else None


def _summary(stored: Stored, *, with_lines: bool) -> dict[str, Any]:
    """A revision without its document; its words only for who may read of every tenant."""
    return {
        "number": stored.number,
        "revision": stored.id,
        "author": stored.author,
        "reason": stored.reason,
        "commit": stored.commit,
        "created": stored.created.isoformat(timespec="seconds"),
        "kind": stored.kind,
        "outcome": stored.outcome,
        "summary": stored.summary if with_lines else "",
        "lines": list(stored.lines) if with_lines else [],
        "words": stored.words if with_lines else "",
    }
