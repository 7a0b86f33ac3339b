"""What an inventory changes compared with an exported live.json: no control, no secret, no key."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from xds_agent.compile import Compiler, KeyPair, Material, Trust
from xds_agent.explain.changes import describe
from xds_agent.model import SITE_CA, Site, join_secrets, load_site, split_secrets
from xds_agent.rollout import completeness
from xds_agent.rollout.plan import FORMAT, plan_of, stand_in
from xds_agent.snapshot.resource import Snapshot


class BadLive(Exception):
    """The file is no live.json of this version."""


class _StandIns(defaultdict[str, str]):
    def __missing__(self, reference: str) -> str:
        return stand_in(reference)


def review(document: Mapping[str, Any], exported: Mapping[str, Any] | None) -> dict[str, Any]:
    """As control answers a dry run, from the documents alone. `exported` None: nothing is live yet.

    Raises ModelError and CompileError with every problem of `document`, BadLive.
    """
    before = _document(exported)
    now = dt.datetime.now(dt.UTC)
    without, _values = split_secrets(document)
    site, snapshots = _compiled(without, now)
    old, old_snapshots = _compiled(before, now) if before is not None else (None, None)
    changes = describe(old, site, old_snapshots, snapshots)
    removals = completeness.removals(old, site) if old is not None else ()
    return {
        "changed": bool(changes),
        "lines": [{"proxies": list(line.proxies), "text": line.text} for line in changes.lines],
        "summary": changes.summary,
        "notes": [note.render() for note in site.not_acted_on],
        "removals": list(dict.fromkeys(one.name for one in removals)),
        "plan": plan_of(before, without),
        "against": exported.get("number") if exported is not None else None,
    }


def _document(exported: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if exported is None:
        return None
    if exported.get("format") != FORMAT:
        raise BadLive(f"it is no {FORMAT}")
    document = exported.get("document")
    if not isinstance(document, Mapping):
        raise BadLive("it holds no document")
    return document


def _compiled(without: Mapping[str, Any], now: dt.datetime) -> tuple[Site, dict[str, Snapshot]]:
    site = load_site(join_secrets(without, _StandIns()))
    return site, Compiler().compile(site, _material(site), now=now).snapshots()


def _material(site: Site) -> Material:
    """Stand-ins for what only control has: equal on both sides, so that no difference comes from them."""
    pairs = {
        one.name: KeyPair(chain=(one.certificate or f"certificate {one.name}").encode(), key=b"a key")
        for one in site.edge.certificates
    }
    trusts = {
        one.name: Trust(ca=one.certificate.encode(), crl=one.crl.encode() if one.crl else None)
        for one in site.edge.authorities
    }
    return Material(pairs, {SITE_CA: Trust(ca=b"the site's authority"), **trusts})
