"""Private reach between clouds: WireGuard tunnels of a gateway, and the routes of every host that needs one.

Started by marchproxy-interconnect.service with /etc/marchproxy/interconnect.json. A gateway has one interface
per gateway of other networks, so that it takes packets from any of them, whoever they are sent through. Every
second all ways to a network are asked whether they lead there; its routes go by the first that does. Where
none does, packets are refused: they never leave in the clear. Over HTTP it answers which networks it reaches.
Stopping it leaves tunnels and routes as they are; `--down` takes them away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# It lies beside this program.
from interconnect_kernel import (
    RULE_PREFERENCE,
    RUN,
    TABLE,
    down,
    forward,
    links,
    make_link,
    normal,
    present_routes,
    run,
    works,
)

MARK = "51820"
# Behind every other route of the table.
LAST_RESORT = "4278198272"
PROBE_EVERY_S, PROBE_TIMEOUT_S = 1.0, 1.0
DEAD_AFTER, ALIVE_AFTER = 3, 3
KEEPALIVE_S = 15


class TunnelLost(Exception):
    """An interface went; the next start makes it again."""


@dataclass
class Way:
    """A way to networks: a tunnel to another gateway, or a gateway of one's own network."""

    name: str
    address: str
    route: tuple[str, ...]
    # The network it is a tunnel to; a gateway says itself where it leads.
    network: str | None = None
    alive: bool = False
    leads_to: frozenset[str] = frozenset()
    _other: int = 0
    _ever: bool = False

    def seen(self, answer: frozenset[str] | None) -> None:
        """Counts one probe: three in a row change what is believed, and the first answer ever at once."""
        if answer is not None:
            self.leads_to = answer
        good = answer is not None
        if good == self.alive:
            self._other = 0
            return
        self._other += 1
        if self._other >= (ALIVE_AFTER if good else DEAD_AFTER) or (good and not self._ever):
            self.alive, self._other, self._ever = good, 0, self._ever or good


@dataclass(frozen=True)
class Network:
    """Another network: its ranges, and who leads there, the first choice first."""

    name: str
    ranges: tuple[str, ...]
    through: tuple[str, ...]


def ways_of(config: dict[str, Any]) -> dict[str, Way]:
    own = config["address"]
    tunnels = {
        one["peer"]: Way(
            one["peer"], one["probe"], ("dev", one["interface"], "src", own), network=one["network"]
        )
        for one in config.get("tunnels", [])
    }
    gateways = {
        one["name"]: Way(one["name"], one["address"], ("via", one["address"]))
        for one in config.get("gateways", [])
    }
    return tunnels | gateways


def networks_of(config: dict[str, Any]) -> list[Network]:
    return [Network(one["name"], tuple(one["ranges"]), tuple(one["through"])) for one in config["networks"]]


def chosen(network: Network, ways: dict[str, Way]) -> Way | None:
    """The first way that leads to the network."""
    for name in network.through:
        way = ways[name]
        if way.alive and network.name in way.leads_to:
            return way
    return None


def wanted_routes(networks: list[Network], ways: dict[str, Way]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(kind, range) -> where it goes, of all that the table should hold."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for way in ways.values():
        if way.network:
            found["unicast", normal(way.address)] = way.route
    for network in networks:
        way = chosen(network, ways)
        for range_ in map(normal, network.ranges):
            found["unreachable", range_] = ("metric", LAST_RESORT)
            if way:
                found["unicast", range_] = way.route
    return found


class Mesh:
    """Interfaces, rules and routes of this host, kept as the configuration and the probes say."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.ways = ways_of(config)
        self.networks = networks_of(config)
        self.routes: dict[tuple[str, str], tuple[str, ...]] = {}

    def up(self) -> None:
        """Refusal first, then tunnels and forwarding; what an earlier configuration left goes.

        Routes that are there stay until the first round of probes: a restart cuts nothing.
        """
        tunnels = self.config.get("tunnels", [])
        self.routes = dict.fromkeys(present_routes(), ("?",))
        self._refuse()
        self._rule(bool(tunnels))
        for name in links() - {one["interface"] for one in tunnels}:
            run("ip", "link", "delete", name)
        if tunnels:
            forward(self.config["ranges"])
        for one in tunnels:
            self._tunnel(one)
        for way in self.ways.values():
            if way.network:
                self._set("unicast", normal(way.address), way.route)

    def _refuse(self) -> None:
        """What has no way is refused: it never leaves in the clear."""
        for network in self.networks:
            for range_ in network.ranges:
                self._set("unreachable", normal(range_), ("metric", LAST_RESORT))

    def _set(self, kind: str, range_: str, where: tuple[str, ...]) -> None:
        if self.routes.get((kind, range_)) != where:
            run("ip", "route", "replace", kind, range_, *where, "table", TABLE)
            self.routes[kind, range_] = where

    def _rule(self, marked: bool) -> None:
        """The rule that leads to our table; what a tunnel sends is marked, and goes by the host's routes."""
        rules = [
            rule for rule in json.loads(run("ip", "-j", "rule")) if str(rule["priority"]) == RULE_PREFERENCE
        ]
        if [bool(rule.get("fwmark")) for rule in rules] == [marked]:
            return
        mark = ("not", "fwmark", MARK) if marked else ()
        run("ip", "rule", "add", "pref", RULE_PREFERENCE, *mark, "lookup", TABLE)
        for _ in rules:
            # Of equal preference the oldest goes.
            run("ip", "rule", "delete", "pref", RULE_PREFERENCE)

    def _tunnel(self, one: dict[str, Any]) -> None:
        name = one["interface"]
        if name not in links():
            make_link(name)
        RUN.mkdir(mode=0o700, exist_ok=True)
        file = RUN / f"{name}.conf"
        file.touch(mode=0o600)
        file.write_text(wireguard_conf(one, Path(self.config["key"]).read_text().strip()))
        try:
            run("wg", "syncconf", name, str(file))
        finally:
            file.unlink()
        run("ip", "link", "set", name, "mtu", str(one["mtu"]), "up")
        # Without an address of its own, even a loose check of sources drops what came by another tunnel than
        # its answer goes.
        run("ip", "address", "replace", f"{self.config['address']}/32", "dev", name)

    def settle(self) -> None:
        """Bring the table to what the probes say, range by range, never without a route between."""
        wanted = wanted_routes(self.networks, self.ways)
        for (kind, range_), where in wanted.items():
            self._set(kind, range_, where)
        for kind, range_ in self.routes.keys() - wanted.keys():
            works("ip", "route", "delete", kind, range_, "table", TABLE)
        self.routes = wanted

    def reached(self) -> dict[str, str | None]:
        """Network -> through whom it is reached now."""
        return {
            network.name: way.name if (way := chosen(network, self.ways)) else None
            for network in self.networks
        }

    async def watch(self) -> None:
        interfaces = [Path("/sys/class/net", one["interface"]) for one in self.config.get("tunnels", [])]
        while all(interface.exists() for interface in interfaces):
            before = self.reached()
            answers = await asyncio.gather(*(self._probe(way) for way in self.ways.values()))
            for way, answer in zip(self.ways.values(), answers, strict=True):
                way.seen(answer)
            for name, through in self.reached().items():
                if through != before[name]:
                    print(f"{name}: {before[name] or 'nobody'} -> {through or 'nobody'}", flush=True)
            self.settle()
            await asyncio.sleep(PROBE_EVERY_S)
        raise TunnelLost

    async def _probe(self, way: Way) -> frozenset[str] | None:
        """Networks that the way leads to; None if it does not answer."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(way.address, self.config["health_port"])
                try:
                    writer.write(b"GET / HTTP/1.0\r\n\r\n")
                    said = await reader.read(65536)
                    while more := await reader.read(65536):
                        said += more
                finally:
                    writer.close()
            reached = json.loads(said.partition(b"\r\n\r\n")[2])["networks"]
        except (OSError, TimeoutError, ValueError, KeyError, TypeError):
            return None
        if way.network:
            return frozenset({way.network})
        return frozenset(name for name, through in reached.items() if through)

    def _known(self, writer: asyncio.StreamWriter) -> bool:
        """Whether a host of the site asks: nobody else is told names."""
        asks = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        ranges = [*self.config.get("ranges", []), *(each for one in self.networks for each in one.ranges)]
        return asks.is_loopback or any(asks in ipaddress.ip_network(each) for each in ranges)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever asks is told which networks are reached; 503 when there are some and none is."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await reader.readuntil(b"\r\n")
                reached = self.reached()
                good = any(reached.values()) or not reached
                names = {"name": self.config["name"], "networks": reached} if self._known(writer) else {}
                body = json.dumps(names).encode()
                status = b"200 OK" if good else b"503 Service Unavailable"
                writer.write(
                    b"HTTP/1.0 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, len(body), body)
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


def wireguard_conf(one: dict[str, Any], key: str) -> str:
    return (
        f"[Interface]\nPrivateKey = {key}\nListenPort = {one['listen_port']}\nFwMark = {MARK}\n"
        f"[Peer]\nPublicKey = {one['public_key']}\nEndpoint = {one['endpoint']}\n"
        f"AllowedIPs = {', '.join([one['probe'] + '/32', *one['ranges']])}\n"
        f"PersistentKeepalive = {KEEPALIVE_S}\n"
    )


async def serve(config: dict[str, Any]) -> None:
    mesh = Mesh(config)
    mesh.up()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    # Balancers ask under an address of their own: every address of the host answers.
    server = await asyncio.start_server(mesh.answer, "0.0.0.0", config["health_port"])
    watching = asyncio.create_task(mesh.watch())
    ended = asyncio.create_task(over.wait())
    async with server:
        await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if watching.done():
        watching.result()
    watching.cancel()


def main(arguments: list[str]) -> int:
    if arguments == ["--down"]:
        down()
        return 0
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(json.loads(Path(arguments[0]).read_text())))
    except subprocess.CalledProcessError as problem:
        print(f"{' '.join(problem.cmd)}: {(problem.stderr or '').strip()}", file=sys.stderr)
        return 1
    except TunnelLost as lost:
        print(lost.__doc__, file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"{problem.filename or 'interconnect'}: {problem.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
