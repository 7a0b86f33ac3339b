"""Commands on a host with a datapath: what runs, what packets meet, and off and on again."""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xds_agent.cli.daemons import NODE_YML
from xds_agent.cli.errors import CliError

if TYPE_CHECKING:
    from xds_agent.cli.datapath_words import Look

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

    Envoy knows no packets: what XDP and tc count goes to its HTTP by the ports of its listeners, to its
    tcp_proxy or udp_proxy where the service has qos, bandwidth or a packet_limit, else to "host and envoy's
    other ports". Beside it stands what Envoy counts itself, in its own units.

    [dim]Examples:[/dim]
      xds-agent datapath top
      xds-agent datapath top --count 1 --json
    """
    from xds_agent.cli.datapath_words import rates, show_top

    before, looks = _look(config), 0
    while not count or looks < count:
        time.sleep(interval)
        after = _look(config)
        found = rates(before, after)
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

    pins = datapath_of(config).pins
    try:
        # First: after it the agent puts nothing on again, tc neither.
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
    from xds_agent.node.datapath.attachment import (
        AttachError,
        balance_seed,
        end_detach,
        host_seed,
        load_beside,
    )
    from xds_agent.node.datapath.attachment import attach as put_on
    from xds_agent.node.datapath.network import Network, NetworkError

    own = datapath_of(config)
    sizes = Sizes(services=own.services, reals=own.reals, limit_blocks=own.limit_blocks, flows=own.flows)
    runtime = load_config(config).runtime_dir
    try:
        loaded = load_beside(
            own.program, folder=own.pins, sizes=sizes,
            balance_seed=balance_seed(own.balance_seed_file, runtime), host_seed=host_seed(runtime),
        )  # fmt: skip
        with closing(loaded.generation), Network() as network:
            interfaces = [network.interface(name) for name in own.interfaces]
            made = put_on(loaded.generation, interfaces, folder=own.pins, native=own.mode == "native")
            end_detach(own.pins)
            if made.refused:
                raise AttachError("; ".join(made.refused.values()))
    except (AttachError, NetworkError) as error:
        raise CliError(str(error)) from error
    _say("attached", sorted(made.links), as_json)


@group.command()
def preflight(
    interfaces: Annotated[
        list[str] | None, typer.Argument(help="Interfaces; none: those of node.yml.", show_default=False)
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="native or skb; none: as node.yml says, else native.", show_default=False),
    ] = None,
    config: Config = NODE_YML,
    as_json: Json = False,
) -> None:
    """Packets through a card's driver and back by XDP, before any datapath: what that proves, or why not.

    A program that passes all else is on the card for two seconds at most. A card with a program is refused.

    [dim]Examples:[/dim]
      xds-agent datapath preflight
      xds-agent datapath preflight ens5 --mode native --json
    """
    from xds_agent.node.config import ConfigError, DatapathConfig, load_config
    from xds_agent.node.datapath.attachment import AttachError, why_not
    from xds_agent.node.datapath.network import Network, NetworkError
    from xds_agent.node.datapath.preflight import Preflight

    own = None
    if config.exists() or not interfaces:
        try:
            own = load_config(config).datapath
        except ConfigError as error:
            raise CliError(str(error)) from error
    if mode not in (None, "native", "skb"):
        raise CliError(f"--mode {mode}: it is native or skb")
    if own is None and not interfaces:
        raise CliError(
            f"{config} names no datapath", "name the interfaces: xds-agent datapath preflight ens5"
        )
    own = own or DatapathConfig(interfaces=interfaces or [])
    native = (mode or own.mode) == "native"
    trial, found = Preflight(own.program.parent, native=native), {}
    try:
        for name in interfaces or own.interfaces:
            with Network() as network:
                card = network.interface(name)
            if card.xdp:
                raise AttachError(why_not(card, OSError(errno.EBUSY, "busy"), native=native))
            if (link := trial.card(card)) is not None:
                link.close()
            found[name] = trial.words[name]
    except (AttachError, NetworkError) as error:
        raise CliError(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"preflight": found}))
    else:
        for name, words in found.items():
            typer.echo(f"{name}: {words}")


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=_LISTENS_S).close()
    except OSError:
        return False
    return True


def datapath_of(config: Path) -> Any:
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

    datapath_of(config)
    found = state.read(load_config(config).runtime_dir / "datapath.json")
    if found is None:
        raise CliError("the agent has not started the datapath since this host booted",
                       "see: journalctl -u xds-agent-node")  # fmt: skip
    return found


def _look(config: Path) -> Look:
    import asyncio

    from xds_agent.cli.datapath_words import ENVOY_PATTERN, Look, proxied_of
    from xds_agent.node.admin import Admin, AdminError
    from xds_agent.node.config import load_config

    state, envoy, found = live_state(config), load_config(config).envoy, {}
    counts, counted_s = _counts(state), time.monotonic()
    # Envoy answers when its main thread has time, which may be long after.
    if envoy.present:
        with suppress(AdminError):
            found = dict(asyncio.run(Admin(envoy.admin_socket).counters(ENVOY_PATTERN)))
    return Look(counts, proxied_of(state), found, counted_s=counted_s, answered_s=time.monotonic())


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
