"""A site document from what a person points at: a JSON document, or an inventory that Ansible reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xds_agent.cli.errors import CliError

_PLUGIN = "ansible_collections.marchproxy.edge.plugins.module_utils.site_document"


def load_document(
    path: Path, *, vault_ids: list[str], vault_password_files: list[Path], without_secrets: bool = False
) -> dict[str, Any]:
    """The document at `path`. `without_secrets` opens no vault: stand-ins take the place of its values.

    Raises CliError when it cannot be read at all."""
    if not path.exists():
        raise CliError(f"{path} does not exist", "name an inventory folder or a JSON site document")
    if path.is_file() and path.suffix == ".json":
        return _json(path)
    return _inventory(path, vault_ids, vault_password_files, without_secrets=without_secrets)


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    except ValueError as error:
        raise CliError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CliError(
            f"{path} holds no object", 'a site document is {"schema": 1, "edge": ..., "hosts": ...}'
        )
    return document


def _inventory(
    path: Path, vault_ids: list[str], password_files: list[Path], *, without_secrets: bool
) -> dict[str, Any]:
    try:
        from ansible.plugins.loader import init_plugin_loader
    except FileNotFoundError as error:
        # Ansible looks for its configuration in the working directory, which must be there.
        raise CliError("the folder you are in was removed", "go to another one, and run it again") from error
    except ImportError as error:
        raise CliError(
            f"{path} is an inventory, and Ansible is not installed in {sys.prefix}",
            "run this on the controller (requirements/controller.txt), or give a JSON site document",
        ) from error
    collections = _collections(path)
    if collections is not None:
        # Before anything of ansible_collections is imported: else Ansible's loader never finds it.
        init_plugin_loader([str(collections)])
    else:
        init_plugin_loader()
    try:
        from importlib import import_module

        build = import_module(_PLUGIN).build_from_inventory
    except ImportError as error:
        raise CliError(
            "the collection marchproxy.edge was not found",
            "run this below the repository, or install it: ansible-galaxy collection install marchproxy.edge",
        ) from error
    files = [str(one) for one in password_files]
    document: dict[str, Any] = build(
        str(path), vault_ids=tuple(vault_ids), vault_password_files=tuple(files),
        without_secrets=without_secrets,
    )  # fmt: skip
    return document


def _collections(path: Path) -> Path | None:
    """The .collections of the repository around the inventory, the working directory, or this package."""
    for start in (path.resolve(), Path.cwd(), Path(__file__).resolve()):
        for folder in _upwards(start):
            if (folder / ".collections" / "ansible_collections").is_dir():
                return folder / ".collections"
    return None


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents
