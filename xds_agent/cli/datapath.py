"""Commands on a host with a datapath: what runs, what packets meet, and off and on again."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from xds_agent.cli.daemons import NODE_YML
from xds_agent.cli.errors import CliError

Config = Annotated[Path, typer.Option("--config", help="node.yml of this host.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
# As DatapathConfig has it by default, and role xds_agent says.
PINS = Path("/run/marchproxy/bpf/datapath")
_LISTENS_S = 5.0

group = typer.Typer(
    name="datapath", no_args_is_help=True, help="The XDP datapath of this host (run there, as root)."
)


@group.command()
def status(config: Config = NODE_YML, as_json: Json = False) -> None:
    """What runs on which interface, each service's reals, and what became of packets so far.

    [dim]Example:[/dim]  script/lab ssh edge-aws1 xds-agent datapath status
    """
    state = live_state(config)
    counts = _counts(state) if "layout" in state else {}
    if as_json:
        typer.echo(json.dumps({**state, "counters": counts}, indent=2))
    else:
        from xds_agent.cli.datapath_words import show_status

        show_status(state, counts)
    if state.get("problem"):
        raise typer.Exit(1)


@group.command()
def top(
    config: Config = NODE_YML,
    interval: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 1.0,
    count: Annotated[int, typer.Option(help="Looks; 0: until interrupted.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Packets a second by service and reason, and the share of each tier.

    [dim]Examples:[/dim]
      xds-agent datapath top
      xds-agent datapath top --count 1 --json
    """
    from xds_agent.cli.datapath_words import rates, show_top

    state = live_state(config)
    before, looks = _counts(state), 0
    while not count or looks < count:
        time.sleep(interval)
        after = _counts(live_state(config))
        found = rates(before, after, interval)
        typer.echo(json.dumps(found)) if as_json else show_top(found)
        before, looks = after, looks + 1


@group.command()
def detach(config: Config = NODE_YML, as_json: Json = False) -> None:
    """Take the programs of XDP and tc off every interface, at once. Nothing is filtered, balanced or marked
    until `attach`, or until the agent starts again.
    """
    from xds_agent.node.config import load_config
    from xds_agent.node.datapath.attachment import AttachError
    from xds_agent.node.datapath.attachment import detach as take_off
    from xds_agent.node.datapath.shaped import FILE
    from xds_agent.node.datapath.shaping import take_off as take_tc_off

    pins = _datapath(config).pins
    try:
        # First: the agent puts tc on again wherever XDP is on.
        names = take_off(pins)
        take_tc_off(pins=pins, record=load_config(config).runtime_dir / FILE)
    except (AttachError, OSError) as error:
        raise CliError(str(error)) from error
    _say("detached", names, as_json)


@group.command()
def forget(
    config: Config = NODE_YML,
    pins: Annotated[
        Path, typer.Option("--pins", help="Folder of what it pinned; node.yml names it no more.")
    ] = PINS,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="Although node.yml names a datapath: the agent was stopped.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take away all that the datapath has left on a host that has none any more: programs, maps, filters,
    HTB classes, vips. The agent's unit does so by itself when xdp_interfaces is empty, and
    playbooks/decommission.yml with --stopped; an agent that is started again makes all of it anew.
    """
    from xds_agent.node.config import ConfigError, load_config
    from xds_agent.node.datapath.forgetting import ForgetError
    from xds_agent.node.datapath.forgetting import forget as take_away

    try:
        node = load_config(config)
    except ConfigError as error:
        raise CliError(str(error)) from error
    if stopped and _listens(node.metrics.address, node.metrics.port):
        raise CliError("the agent runs, and would put it on again", "systemctl stop xds-agent-node")
    if node.datapath is not None and not stopped:
        raise CliError(
            f"{config} names a datapath, which the agent would put on again",
            "empty xdp_interfaces in the inventory and run site.yml; for a while: xds-agent datapath detach",
        )
    if node.datapath is not None:
        pins = node.datapath.pins
    try:
        found = take_away(pins=pins, runtime=node.runtime_dir, lasting=node.state_dir)
    except (ForgetError, OSError) as error:
        raise CliError(str(error)) from error
    _say("forgotten", found, as_json)


@group.command()
def attach(config: Config = NODE_YML, as_json: Json = False) -> None:
    """Put the program on again after `detach`: services, lists and counters are as they were. A running agent
    puts tc on with it.
    """
    from xds_agent.datapath.program import Sizes
    from xds_agent.node.config import load_config
    from xds_agent.node.datapath.attachment import AttachError, balance_seed, host_seed, load_beside
    from xds_agent.node.datapath.attachment import attach as put_on
    from xds_agent.node.datapath.network import Network, NetworkError

    own = _datapath(config)
    sizes = Sizes(services=own.services, reals=own.reals, limit_blocks=own.limit_blocks, flows=own.flows)
    runtime = load_config(config).runtime_dir
    try:
        loaded = load_beside(
            own.program, folder=own.pins, sizes=sizes,
            balance_seed=balance_seed(own.balance_seed_file, runtime), host_seed=host_seed(runtime),
        )  # fmt: skip
        with closing(loaded.generation), Network() as network:
            interfaces = [network.interface(name) for name in own.interfaces]
            links = put_on(loaded.generation, interfaces, folder=own.pins, native=own.mode == "native")
    except (AttachError, NetworkError) as error:
        raise CliError(str(error)) from error
    _say("attached", sorted(links), as_json)


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
    document = _live(site)
    state, own = live_state(config), _datapath(config)
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


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=_LISTENS_S).close()
    except OSError:
        return False
    return True


def _live(site: Path | None) -> dict[str, Any]:
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
            return [bytes.fromhex(hexadecimal)]
        assert capture is not None
        return frames_of(capture.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(f"{capture or '--hex'}: {error}") from error


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


def _datapath(config: Path) -> Any:
    from xds_agent.node.config import ConfigError, load_config

    try:
        found = load_config(config).datapath
    except ConfigError as error:
        raise CliError(str(error)) from error
    if found is None:
        raise CliError(
            "this host has no datapath", "give it xdp_interfaces in the inventory and run site.yml"
        )
    return found


def live_state(config: Path) -> dict[str, Any]:
    """What the agent wrote down last. Raises CliError where there is none."""
    from xds_agent.node.config import load_config
    from xds_agent.node.datapath import state

    _datapath(config)
    found = state.read(load_config(config).runtime_dir / "datapath.json")
    if found is None:
        raise CliError("the agent has not started the datapath since this host booted",
                       "see: journalctl -u xds-agent-node")  # fmt: skip
    return found


def _counts(state: Mapping[str, Any]) -> dict[str, dict[str, dict[str, int]]]:
    """Service -> reason -> packets and bytes; `host` is what is no service's."""
    from xds_agent.datapath.libbpf import Unavailable
    from xds_agent.node.datapath.pinned import NotRunning, Pinned

    try:
        with closing(Pinned.of_state(state)) as pinned:
            counters = pinned.counters
            numbers = {"host": 0, **{one["name"]: one["id"] for one in state["services"]}}
            found = counters.services(set(numbers.values()))
            return {
                name: {
                    reason: {"packets": one.packets, "bytes": one.bytes}
                    for reason, one in found.get(number, {}).items()
                }
                for name, number in numbers.items()
            }
    except (NotRunning, Unavailable, OSError) as error:
        raise CliError(str(error), "run it as root") from error


def _say(verb: str, names: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({verb: names}))
    else:
        typer.echo(f"{verb}: {', '.join(names) or 'nothing'}")
