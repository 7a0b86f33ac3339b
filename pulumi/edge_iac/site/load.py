"""load_site: a site file in, a checked `Site` out, or every problem at once."""

from pathlib import Path
from typing import Any

from edge_iac.site.checks import run_checks
from edge_iac.site.document import parse_document, read_document
from edge_iac.site.model import Site
from xds_agent.model.fragment import Fragment, path_of, validated
from xds_agent.model.problems import ModelError, Problem
from xds_agent.model.site import find_origin
from xds_agent.model.words import explain

SITES = Path(__file__).parents[2] / "sites"


def site_path(name: str) -> Path:
    """'prod' -> pulumi/sites/prod.yaml; a path to a .yaml file is that file."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    return SITES / f"{name}.yaml"


def load_site(name: str, *, shown: str | None = None) -> Site:
    """The site called ``name`` (or written in the file ``name``). Raises ModelError with every problem.

    ``shown``: what the file is called in them, by default its path.
    """
    path = site_path(name)
    shown = shown or _shown(path)
    document, origins = read_document(path, shown)
    return checked_site(document, origins, stem=path.stem)


def parse_site(text: str, *, shown: str, stem: str) -> Site:
    """A site from text, for comparing with an earlier one. Raises ModelError."""
    document, origins = parse_document(text, shown)
    return checked_site(document, origins, stem=stem)


def checked_site(document: dict[str, Any], origins: dict[str, str], *, stem: str) -> Site:
    """Checks form, then meaning of what is right in form. Raises ModelError with every problem, by place."""
    problems: list[Problem] = []

    def add(path: str, message: str, fix: str = "") -> None:
        problem = Problem(path=path, message=message, fix=fix, origin=find_origin(origins, path))
        if problem not in problems:
            problems.append(problem)

    fragment = Fragment(document)
    site, errors = validated(Site, fragment)
    for error in errors:
        message, fix = explain(error, Site, hidden=False)
        add(path_of(document, error["loc"]), message, fix)
    if site is not None:
        run_checks(site, add, stem=stem)
    if problems:
        raise ModelError(sorted(problems, key=_place))
    assert isinstance(site, Site)
    return site


def _place(problem: Problem) -> tuple[int, str]:
    parts = (problem.origin or "").split(":")
    return next((int(part) for part in parts[1:] if part.isdigit()), 0), problem.path


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
