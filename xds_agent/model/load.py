"""load_site: a site document in, a checked `Site` out, or every problem at once.

Problems of form come from pydantic, problems of meaning from `checks`. So that one wrong value does not
hide ten others, what is wrong is cut out of a copy and the rest goes through the checks all the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from xds_agent.model.checks import run_checks
from xds_agent.model.checks.context import Context
from xds_agent.model.edge import Edge
from xds_agent.model.notes import notes_on
from xds_agent.model.problems import ModelError, Problem
from xds_agent.model.site import Host, Site, find_origin
from xds_agent.model.words import explain, is_secret

SCHEMA = 1
"""Version of the site document this model reads."""

FAILED = "$failed"
"""Key of the mark that stands for a value which could not be read."""

_ROUNDS = 50


class _Fragment:
    """A document, what was cut out of it, and where each remaining list item was at first."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.original = document
        self.document: dict[str, Any] = dict(document)
        self.damaged: set[tuple[str | int, ...]] = set()
        self.kept = {
            key: list(range(len(value))) for key, value in document.items() if isinstance(value, list | tuple)
        }

    def cut(self, loc: tuple[int | str, ...]) -> None:
        """Takes the value at ``loc`` out, copying only what is on the way."""
        head: int | str = loc[0]
        if len(loc) > 1 and head in self.kept and isinstance(loc[1], int):
            self.damaged.add((head, self.kept[str(head)][loc[1]]))
        else:
            self.damaged.add((head,))
        here: Any = self.document
        for step in loc[:-1]:
            child = here[step]
            child = dict(child) if isinstance(child, Mapping) else list(child)
            here[step] = child
            here = child
        if isinstance(here, list):
            del here[int(loc[-1])]
            if len(loc) == 2 and head in self.kept:
                del self.kept[str(head)][int(loc[1])]
        else:
            here.pop(loc[-1], None)

    def exists(self, loc: tuple[int | str, ...]) -> bool:
        here: Any = self.document
        for step in loc:
            known = (isinstance(here, Mapping) and step in here) or (
                isinstance(here, list | tuple) and isinstance(step, int) and step < len(here)
            )
            if not known:
                return False
            here = here[step]
        return True


def path_of(document: Any, loc: tuple[int | str, ...]) -> str:
    """('services', 0, 'endpoints', 1, 'port') -> 'services[shop].endpoints[1].port'."""
    text = ""
    here = document
    for step in loc:
        if step == "[key]":
            continue
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, Mapping) else None
            text += f"[{name if isinstance(name, str) else step}]"
        else:
            text += f".{step}" if text else str(step)
    return text


def _failed(node: Any, loc: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Places whose template or vault value could not be read: gathering has complained about them already."""
    if isinstance(node, Mapping):
        if FAILED in node:
            yield loc
            return
        for key, value in node.items():
            yield from _failed(value, (*loc, key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _failed(value, (*loc, index))


def _later_first(loc: tuple[int | str, ...]) -> list[tuple[bool, int, str]]:
    """Sort key: with reverse=True, later list items come first, so that cutting moves no other place."""
    return [(isinstance(step, str), step if isinstance(step, int) else 0, str(step)) for step in loc]


def _cuts(errors: list[ErrorDetails], fragment: _Fragment) -> list[tuple[int | str, ...]]:
    """The smallest things to take out so that the rest may pass; later list items first."""
    places: set[tuple[int | str, ...]] = set()
    for error in errors:
        loc = tuple(step for step in error["loc"] if step != "[key]")
        if error["type"] == "missing":
            loc = loc[:-1]
        while loc and not fragment.exists(loc):
            loc = loc[:-1]
        if loc:
            places.add(loc)
    minimal = [loc for loc in places if not any(loc[:n] in places for n in range(1, len(loc)))]
    return sorted(minimal, key=_later_first, reverse=True)


def _form(model: type[BaseModel], fragment: _Fragment) -> tuple[Any, list[ErrorDetails]]:
    """(model of what is right, errors of form). The model is None when nothing usable is left."""
    first: list[ErrorDetails] | None = None
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(fragment.document), first or []
        except ValidationError as error:
            errors = error.errors(include_url=False)
            first = first if first is not None else errors
            cuts = _cuts(errors, fragment)
            if not cuts:
                break
            for loc in cuts:
                fragment.cut(loc)
    return None, first or []


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
        fragment = _Fragment({**facts, "name": name})
        host, errors = _form(Host, fragment)
        collector.add_errors(errors, Host, fragment.original, prefix=f"hosts.{name}.")
        if host is not None:
            hosts[name] = host
    return hosts


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
    fragment = _Fragment(raw)
    if collector.problems:
        for loc in sorted(_failed(raw), key=_later_first, reverse=True):
            fragment.cut(loc)
    edge, errors = _form(Edge, fragment)
    collector.add_errors(errors, Edge, raw)
    # A file that could not be read may hold what seems to be missing: say nothing about names then.
    if edge is not None and not document.get("incomplete"):
        context = Context(
            edge=edge, hosts=hosts, raw=raw, kept=fragment.kept, damaged=fragment.damaged, add=collector.add
        )
        run_checks(context)
    if collector.problems:
        raise ModelError(sorted(collector.problems, key=lambda p: _place_key(p)))
    assert edge is not None
    site = Site(edge=edge, hosts=hosts, origins=origins)
    return Site(edge=edge, hosts=hosts, origins=origins, not_acted_on=tuple(notes_on(site)))


def _place_key(problem: Problem) -> tuple[str, int, str]:
    """Sorts problems by file, then line, then path, so that one file's problems stand together."""
    if problem.origin is None:
        return "", 0, problem.path
    parts = problem.origin.split(":")
    line = next((int(part) for part in parts[1:] if part.isdigit()), 0)
    return parts[0], line, problem.path
