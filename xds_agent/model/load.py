"""load_site: a site document in, a checked `Site` out, or every problem at once.

Problems of form come from pydantic, problems of meaning from `checks`. So that one wrong value does not
hide ten others, what is wrong is cut out of a copy and the rest goes through the checks all the same.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from xds_agent.model.checks import run_checks
from xds_agent.model.checks.context import Context
from xds_agent.model.edge import Edge
from xds_agent.model.fragment import Fragment, path_of, validated
from xds_agent.model.notes import notes_on
from xds_agent.model.problems import ModelError, Problem
from xds_agent.model.secrets import split_secrets
from xds_agent.model.site import Host, Site, find_origin
from xds_agent.model.words import explain, is_secret

SCHEMA = 1
"""Version of the site document this model reads."""

_SHORTEST_SECRET = 4
"""Shorter values would be found within ordinary words."""


class _Collector:
    """Turns errors of pydantic into problems, with paths and origins."""

    def __init__(self, origins: Mapping[str, str], secret_paths: frozenset[str]) -> None:
        self.origins = origins
        self.secret_paths = secret_paths
        self.problems: list[Problem] = []

    def add(self, path: str, message: str, fix: str = "") -> None:
        origin = find_origin(self.origins, path)
        problem = Problem(path=path, message=message, fix=fix, origin=origin)
        if problem not in self.problems[-50:]:
            self.problems.append(problem)

    def add_errors(
        self,
        errors: list[ErrorDetails],
        model: type[BaseModel],
        document: Mapping[str, Any],
        prefix: str = "",
    ) -> None:
        for error in errors:
            path = prefix + path_of(document, error["loc"])
            hidden = is_secret(model, error["loc"]) or self._is_secret_path(path)
            message, fix = explain(error, model, hidden=hidden)
            self.add(path, message, fix)

    def _is_secret_path(self, path: str) -> bool:
        key = path if path.startswith("hosts.") else f"edge.{path}"
        return any(
            key == secret or key.startswith((secret + ".", secret + "[")) for secret in self.secret_paths
        )


def _load_hosts(document: Any, collector: _Collector) -> dict[str, Host]:
    hosts: dict[str, Host] = {}
    if not isinstance(document, Mapping):
        collector.add("hosts", "is not a mapping of hosts", "make the document with the inventory plugin")
        return hosts
    for name, facts in document.items():
        if not isinstance(facts, Mapping):
            collector.add(f"hosts.{name}", "is not a mapping", "")
            continue
        fragment = Fragment({**facts, "name": name})
        host, errors = validated(Host, fragment)
        collector.add_errors(errors, Host, fragment.original, prefix=f"hosts.{name}.")
        if host is not None:
            hosts[name] = host
    return hosts


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a large site makes a million objects and no garbage, and each of
    the collections on the way would look at all of them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_site(document: Mapping[str, Any]) -> Site:
    """Reads and checks a whole site.

    ``document`` is the site document: `schema`, `edge`, `hosts`, `origins`, and optionally `secret_paths`
    (paths whose values are never shown). Raises ModelError with every problem found, sorted by place.
    """
    if not isinstance(document, Mapping):
        raise ModelError([Problem(path="", message="the site document is not a mapping")])
    if document.get("schema") != SCHEMA:
        message = f"the site document has schema {document.get('schema')!r}, this version reads {SCHEMA}"
        raise ModelError([Problem(path="", message=message, fix="install the same version on both sides")])
    _check_frame(document)
    origins: Mapping[str, str] = document.get("origins") or {}
    collector = _Collector(origins, frozenset(document.get("secret_paths") or ()))
    hosts = _load_hosts(document.get("hosts", {}), collector)
    for one in document.get("problems") or ():
        collector.problems.append(Problem(**one))
    raw = document.get("edge")
    if not isinstance(raw, Mapping):
        if collector.problems:
            raise ModelError(collector.problems)
        message = "the inventory says nothing about the edge"
        fix = "write edge.yml with `plugin: marchproxy.edge.edge` beside the hosts, and services below edge/"
        collector.add("", message, fix)
        raise ModelError(collector.problems)
    fragment = Fragment(raw)
    if collector.problems:
        fragment.cut_failed()
    with _collection_paused():
        edge, errors = validated(Edge, fragment)
    errors = [one for one in errors if path_of(raw, one["loc"]) not in fragment.unread]
    collector.add_errors(errors, Edge, raw)
    # A file that could not be read may hold what seems to be missing: say nothing about names then.
    if edge is not None and not document.get("incomplete"):

        def add(path: str, message: str, fix: str) -> None:
            collector.add(fragment.original_path(path), message, fix)

        context = Context(
            edge=edge, hosts=hosts, raw=raw, kept=fragment.kept, damaged=fragment.damaged, add=add
        )
        run_checks(context)
    if collector.problems:
        raise ModelError(sorted(_without_secrets(collector.problems, document), key=_place_key))
    assert edge is not None
    site = Site(edge=edge, hosts=hosts, origins=origins, secret_paths=collector.secret_paths)
    return replace(site, not_acted_on=tuple(notes_on(site)))


def _check_frame(document: Mapping[str, Any]) -> None:
    """What stands beside edge and hosts comes from a program. Raises ModelError when it is malformed."""
    fix = "make the document with the inventory plugin"
    origins = document.get("origins") or {}
    if not isinstance(origins, Mapping) or not all(isinstance(one, str) for one in origins.values()):
        raise ModelError([Problem(path="", message="origins is not a mapping of paths to places", fix=fix)])
    paths = document.get("secret_paths") or []
    if not isinstance(paths, list | tuple | set | frozenset) or not all(isinstance(p, str) for p in paths):
        raise ModelError([Problem(path="", message="secret_paths is not a list of paths", fix=fix)])
    problems = document.get("problems") or []
    if not isinstance(problems, list | tuple) or not all(map(_is_problem, problems)):
        raise ModelError([Problem(path="", message="problems is not a list of problems", fix=fix)])


def _is_problem(one: Any) -> bool:
    return (
        isinstance(one, Mapping)
        and {"path", "message"} <= one.keys() <= {"path", "message", "fix", "origin"}
        and all(isinstance(value, str) or (key == "origin" and value is None) for key, value in one.items())
    )


def _without_secrets(problems: list[Problem], document: Mapping[str, Any]) -> list[Problem]:
    """Takes secret values out of every sentence, wherever a check may have quoted one."""
    values = [value for value in split_secrets(document)[1].values() if len(value) >= _SHORTEST_SECRET]
    if not values:
        return problems

    def censored(text: str) -> str:
        for value in values:
            text = text.replace(value, "(secret)")
        return text

    return [replace(one, message=censored(one.message), fix=censored(one.fix)) for one in problems]


def _place_key(problem: Problem) -> tuple[str, int, str]:
    """Sorts problems by file, then line, then path, so that one file's problems stand together."""
    if problem.origin is None:
        return "", 0, problem.path
    parts = problem.origin.split(":")
    line = next((int(part) for part in parts[1:] if part.isdigit()), 0)
    return parts[0], line, problem.path
