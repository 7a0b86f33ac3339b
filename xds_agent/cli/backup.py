"""A control host in one file, and back from it: backup, restore, run as root on a control host."""

from __future__ import annotations

import datetime as dt
import os
import socket as sockets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xds_agent.cli.daemons import SERVE_YML
from xds_agent.cli.errors import CliError

if TYPE_CHECKING:
    from xds_agent.api.config import ServeConfig

Config = Annotated[Path, typer.Option("--config", help="serve.yml of this control host.")]

_SECRET = ("secret.key", "pki/issuing.key")
_BALANCE_SEED = "balance.seed"
_PRIVATE = (*_SECRET, _BALANCE_SEED)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write, as control-2026-11-27.backup.")],
    without_keys: Annotated[
        bool,
        typer.Option(
            "--without-keys", help="Leave out the sealing key and the issuing CA's key; keep them apart."
        ),
    ] = False,
    config: Config = SERVE_YML,
) -> None:
    """Write database and issuing CA of this control host into one file. Control goes on serving.

    The file holds the keys that open every secret and sign every certificate: it is readable by its owner
    alone, keep it so. The offline root (role pki) and this host's own certificate are not in it.

    [dim]Examples:[/dim]
      xds-agent backup /root/control.backup
      xds-agent backup /root/control.backup --without-keys
    """
    from xds_agent.store import SealError, Store, StoreError
    from xds_agent.store.backup import BackupError, write

    loaded = _config(config)
    files = _files(loaded)
    if not files[_BALANCE_SEED].exists():
        del files[_BALANCE_SEED]  # a site without a datapath
    kept_apart = [str(files.pop(label)) for label in _PRIVATE if label in files] if without_keys else []
    try:
        store = Store.open(loaded.database_url, loaded.key_file)
        try:
            missing = write(store, files, file, name=loaded.name, now=dt.datetime.now(dt.UTC))
        finally:
            store.close()
    except (BackupError, StoreError, SealError, OSError) as error:
        raise CliError(str(error)) from error
    typer.echo(
        f"{file} holds the database of {loaded.name} and {', '.join(sorted(set(files) - set(missing)))}"
    )
    if missing:
        typer.echo(f"not there, hence not in it: {', '.join(missing)}")
    if kept_apart:
        typer.echo(f"nothing can be restored without these, keep them apart: {', '.join(kept_apart)}")


def restore(
    file: Annotated[Path, typer.Argument(help="File that xds-agent backup wrote.")],
    config: Config = SERVE_YML,
) -> None:
    """Bring a backup into the empty database of a new control host, and its keys to their places.

    Run it as root between the roles and the first start of control: stop xds-agent-serve, restore, start it.
    Proxies that come back are sent nothing that did not change.

    [dim]Example:[/dim]
      systemctl stop xds-agent-serve && xds-agent restore control.backup && systemctl start xds-agent-serve
    """
    from xds_agent.store import SealError, Store, StoreError, backup

    loaded = _config(config)
    _refuse_running(loaded)
    try:
        manifest, contents = backup.read(file)
        lacking = [
            str(_files(loaded)[one])
            for one in _SECRET
            if one not in contents and not _files(loaded)[one].exists()
        ]
        if lacking:
            raise CliError(f"{file} was made without keys", f"put back first: {', '.join(lacking)}")
        loaded.state_dir.mkdir(parents=True, exist_ok=True)
        rows = backup.fill(loaded.database_url, manifest, contents)
        placed = _place(loaded, contents)
        store = Store.open(loaded.database_url, loaded.key_file)
        try:
            detail = {"of": manifest["of"], "made": manifest["made"]}
            backup.note(store, "restore", detail, dt.datetime.now(dt.UTC))
        finally:
            store.close()
        _give_to_owner(loaded)
    except (backup.BackupError, StoreError, SealError, OSError) as error:
        raise CliError(str(error)) from error
    typer.echo(f"{rows} rows of {manifest['of']}, made {manifest['made']}; put in place: {', '.join(placed)}")


def _files(config: ServeConfig) -> dict[str, Path]:
    files = {"secret.key": config.key_file, "pki/ca.crt": config.tls.ca}
    # Edges have it from here: with another one every connection through XDP would change its backend.
    files[_BALANCE_SEED] = config.key_file.with_name(_BALANCE_SEED)
    if config.tls.crl is not None:
        files["pki/crl.pem"] = config.tls.crl
    if config.issuing_ca is not None:
        files["pki/issuing.crt"] = config.issuing_ca.certificate
        files["pki/issuing.key"] = config.issuing_ca.key
    else:
        # Named all the same, so that whoever restores is told where it belongs.
        files["pki/issuing.key"] = config.tls.key.with_name("issuing.key")
    return files


def _place(config: ServeConfig, contents: dict[str, bytes]) -> list[str]:
    from xds_agent.pki.files import replace_files

    wanted = {label: path for label, path in _files(config).items() if label in contents}
    for path in wanted.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_files(
        {path: (contents[label], 0o600 if label in _PRIVATE else 0o644) for label, path in wanted.items()}
    )
    return sorted(str(path) for path in wanted.values())


def _give_to_owner(config: ServeConfig) -> None:
    """What root has written belongs to whom the state belongs, or control could not read it."""
    if os.geteuid() != 0:
        return
    owner = config.state_dir.stat()
    own = [*config.state_dir.iterdir(), *(path for path in _files(config).values() if path.exists())]
    for path in own:
        os.chown(path, owner.st_uid, owner.st_gid)


def _config(path: Path) -> ServeConfig:
    from xds_agent.api.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        raise CliError(str(error)) from error


def _refuse_running(config: ServeConfig) -> None:
    for entry in config.sockets:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            try:
                probe.connect(str(entry.path))
            except OSError:
                continue
        raise CliError("xds-agent serve runs on this host", "stop it first: systemctl stop xds-agent-serve")
