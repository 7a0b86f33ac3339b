"""Commands that systemd runs: serve, node, bootstrap, renew. Imports stay inside, so that --help is quick."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from xds_agent.cli.errors import CliError

SERVE_YML = Path("/etc/marchproxy/serve.yml")
NODE_YML = Path("/etc/marchproxy/node.yml")

ServeConfig = Annotated[Path, typer.Option("--config", help="serve.yml, as roles/xds_agent writes it.")]
NodeConfig = Annotated[Path, typer.Option("--config", help="node.yml, as roles/xds_agent writes it.")]


def serve(config: ServeConfig = SERVE_YML) -> None:
    """Run the control plane on this host, until SIGTERM.

    It serves the last good revision at once, then takes changes over its Unix sockets.

    [dim]Example:[/dim]  xds-agent serve --config /etc/marchproxy/serve.yml
    """
    from xds_agent.api.config import ConfigError, load_config

    try:
        loaded = load_config(config)
    except ConfigError as error:
        raise CliError(str(error)) from error
    _log_to_journal()
    _run_serve(loaded)


def _run_serve(loaded: object) -> None:
    from xds_agent.ads.control import ListenError
    from xds_agent.api.serve import run
    from xds_agent.api.sockets import SocketError
    from xds_agent.store import SealError, StoreError

    try:
        run(loaded)  # type: ignore[arg-type]
    except (StoreError, SealError, SocketError, ListenError, OSError) as error:
        raise CliError(f"control stopped: {error}") from error


def node(config: NodeConfig = NODE_YML) -> None:
    """Run the node agent of this proxy, until SIGTERM.

    It serves Envoy the last good configuration from its own disk at once, then looks for control.

    [dim]Example:[/dim]  xds-agent node --config /etc/marchproxy/node.yml
    """
    from xds_agent.node.config import ConfigError, load_config

    try:
        loaded = load_config(config)
    except ConfigError as error:
        raise CliError(str(error)) from error
    _log_to_journal()
    from xds_agent.node.agent import run

    try:
        run(loaded)
    except OSError as error:
        raise CliError(f"the node agent stopped: {error}") from error


def bootstrap(config: NodeConfig = NODE_YML) -> None:
    """Print Envoy's bootstrap for this host as JSON.

    [dim]Example:[/dim]  xds-agent bootstrap > /etc/marchproxy/envoy-bootstrap.json
    """
    from xds_agent.node.bootstrap import render
    from xds_agent.node.config import ConfigError, load_config

    try:
        typer.echo(render(load_config(config)))
    except ConfigError as error:
        raise CliError(str(error)) from error


def renew(
    config: NodeConfig = NODE_YML,
    force: Annotated[bool, typer.Option("--force", help="Renew even if it is not yet due.")] = False,
) -> None:
    """Renew this host's certificate through control, if two thirds of its life are over.

    [dim]Examples:[/dim]
      xds-agent renew            what the timer runs every day
      xds-agent renew --force    after control got another issuing CA
    """
    import datetime as dt

    from xds_agent.node.config import ConfigError, load_config
    from xds_agent.pki.renewal import HostFiles, RenewalError, renew_if_due

    try:
        loaded = load_config(config)
    except ConfigError as error:
        raise CliError(str(error)) from error
    tls = loaded.tls
    files = HostFiles(tls.certificate, tls.key, tls.ca, tls.certificate.with_name("crl.pem"))
    try:
        renewed = renew_if_due(
            loaded.name, files, loaded.control, loaded.control_names, now=dt.datetime.now(dt.UTC), force=force
        )
    except (RenewalError, OSError) as error:
        raise CliError(str(error)) from error
    typer.echo("renewed" if renewed else "not due yet")


def _log_to_journal() -> None:
    """Plain lines on stderr, which journald stamps; level from XDS_AGENT_LOG (debug, info, ...)."""
    level = os.environ.get("XDS_AGENT_LOG", "info").upper()
    logging.basicConfig(
        level=getattr(logging, level, logging.INFO), format="%(levelname)s %(name)s: %(message)s"
    )
