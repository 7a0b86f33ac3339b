"""Options that several commands share, so that they mean and read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xds_agent.cli.control import SOCKET

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of words for people.")]
Socket = Annotated[
    Path,
    typer.Option("--socket", envvar="XDS_AGENT_SOCKET", help="Control's Unix socket."),
]
SOCKET_DEFAULT = SOCKET
VaultIds = Annotated[
    list[str] | None,
    typer.Option(
        "--vault-id", help="Vault id and password source, as ansible-playbook takes them. Repeatable."
    ),
]
VaultFiles = Annotated[
    list[Path] | None,
    typer.Option("--vault-password-file", help="File with a vault password. Repeatable."),
]
Inventory = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="Inventory folder or file (needs Ansible), or a site document ending in .json."
    ),
]
InventoryOrProxy = Annotated[
    Path,
    typer.Argument(
        metavar="PATH|PROXY",
        help="Inventory folder or file (needs Ansible), a site document ending in .json, or a proxy's name.",
    ),
]
