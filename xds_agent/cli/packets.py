"""What packets meet: frames through the program that is live on this host."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from xds_agent.cli.daemons import NODE_YML
from xds_agent.cli.datapath import Config, Json, datapath_of, live_state
from xds_agent.cli.errors import CliError

# So much of a frame is shown in an error.
_QUOTED = 40


def explain_packet(
    capture: Annotated[Path | None, typer.Argument(help="A pcap or pcapng file (Ethernet).")] = None,
    hexadecimal: Annotated[str | None, typer.Option("--hex", help="One frame in hexadecimal.")] = None,
    site: Annotated[
        Path | None, typer.Option("--site", help="live.json of control: names file and line of each stage.")
    ] = None,
    config: Config = NODE_YML,
    as_json: Json = False,
) -> None:
    """Run packets through the program that is live on this host, and say what each stage decides and why.

    Flows, translations and limits are those of this moment; live ones are not touched.

    [dim]Examples:[/dim]
      xds-agent explain-packet strange.pcap
      xds-agent explain-packet --hex 0242ac110002024200000000080045...
      ssh control1 xds-agent live > live.json; xds-agent explain-packet strange.pcap --site live.json
    """
    from xds_agent.datapath.libbpf import Unavailable
    from xds_agent.node.config import load_config
    from xds_agent.node.datapath.attachment import AttachError, balance_seed, host_seed
    from xds_agent.node.datapath.pinned import NotRunning, Pinned
    from xds_agent.node.datapath.replay import Replayer, with_origins

    frames = _frames(capture, hexadecimal)
    document = live_document(site)
    state, own = live_state(config), datapath_of(config)
    try:
        with closing(Pinned.of_state(state)) as pinned:
            runtime = load_config(config).runtime_dir
            seeds = {
                "host_seed": host_seed(runtime),
                "balance_seed": balance_seed(own.balance_seed_file, runtime),
            }
            with closing(Replayer(pinned, state, _wanted(config), **seeds)) as replayer:
                found = [replayer.run(frame) for frame in frames]
    except (NotRunning, AttachError, Unavailable, OSError) as error:
        raise CliError(str(error)) from error
    said = [document.get(key) or {} for key in ("edge", "origins", "hosts")]
    found = [with_origins(one, *said) for one in found]
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    from xds_agent.cli.datapath_words import show_packet

    for number, one in enumerate(found, 1):
        show_packet(number, one)


def live_document(site: Path | None) -> dict[str, Any]:
    """The document of a live.json, or a site document itself; {} without one."""
    if site is None:
        return {}
    try:
        said = json.loads(site.read_bytes())
        document = said.get("document", said)
        if isinstance(document.get("edge"), dict):
            return dict(document)
    except (OSError, ValueError, AttributeError) as error:
        raise CliError(f"{site}: {error}", "make it on control: xds-agent live > live.json") from error
    raise CliError(f"{site} holds no site", "make it on control: xds-agent live > live.json")


def _frames(capture: Path | None, hexadecimal: str | None) -> list[bytes]:
    from xds_agent.node.datapath.replay import frames_of

    if (capture is None) == (hexadecimal is None):
        raise CliError("name a pcap file, or one frame with --hex")
    try:
        if hexadecimal is not None:
            return [_frame(hexadecimal)]
        assert capture is not None
        return frames_of(capture.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(f"{capture or '--hex'}: {error}") from error


def _frame(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CliError(
            f"--hex: not hexadecimal: {text[:_QUOTED]}", "write two digits for each byte, from the MAC on"
        ) from None


def _wanted(config: Path) -> Any:
    """The live lists with what the journal holds; reading it disturbs nobody."""
    from xds_agent.node.config import load_config
    from xds_agent.node.datapath.reading import wanted_of
    from xds_agent.node.datapath.wanted import Wanted
    from xds_agent.node.journal import FILE
    from xds_agent.node.journal_format import JournalError, replay

    try:
        data = (load_config(config).state_dir / FILE).read_bytes()
        return wanted_of(replay(data).snapshot, own=(), vips=())
    except (OSError, JournalError):
        return Wanted()
