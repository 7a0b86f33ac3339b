"""A TCP service, a deny prefix and a bandwidth edited, networks denied by hand: as the counters say."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from lab import clients, playbooks, steady
from lab import datapath as asked
from lab.checks import ECHO_PORT
from lab.commands import podman
from lab.datapath import TCP_PORT, counters, vip
from lab.demos.bad_change import lossless, untouched
from lab.demos.control import until
from lab.demos.edits import as_it_is, edited, meant, take_away, write
from lab.demos.stage import Demo, Shown, Stage
from lab.errors import LabError
from lab.place import HostSpec

STORY = """\
Brings the inventory live as it is, then sends requests through every proxy, and meanwhile edits three things
in it (inventories/lab/edge/overlays/demo-datapath.yml), as one change:

  service echo-xdp      its only backend is backend-gcp1 now
  protection.deny       gains a client's address
  service echo          gets bandwidth: {egress: 8mbit}

  1. routes.yml --check --diff says all three in words; then routes.yml makes it so
  2. new connections to echo-xdp end at backend-gcp1, those from before at the backend they had; the client
     is met with silence; a mebibyte from echo takes the second that 8 Mbit/s allow: on every edge, and its
     counters (8082, tc) say the same, as does `xds-agent datapath top` meanwhile
  3. `xds-agent deny` shuts an ordinary client out for ten minutes, and the other one for 60 seconds: silence
     on every edge, named as drift in `xds-agent status` and in the history
  4. the edit is taken back while both are denied by hand: that stays as it is
  5. the 60 seconds end by themselves, the ten minutes by `--lift`; nothing is left of either

No request may fail meanwhile, and routes.yml must have nothing to change in the end.
"""
NAME = "datapath"
RATE_BITS = 8_000_000
TRANSFER_BYTES = 1 << 20
# What HTB lets through at once, and headers, which it counts and this does not.
TOLERATED = 1.1
SHORT_S = 60
_ANSWER_S = 20.0
Where = Callable[[HostSpec], str]


def play(stage: Stage) -> Iterable[Shown]:
    """A row per step, one for the traffic, one for what is left."""
    edges = stage.place.in_group("l4")
    by_hand, for_a_while = (_network(stage, one) for one in (clients.ORDINARY, clients.GREEDY))
    as_it_is(stage)
    watches = [steady.Watch(proxy, "/") for proxy in stage.place.in_group("ingress")]
    with steady.requests(watches, stage.site), _valve(stage) as deny:
        with edited(stage, NAME, folder="overlays") as apply, _open(stage, edges) as open_before:
            edge = edit(stage)
            stage.say("asking what the edit would change")
            yield announced(_checked(stage, edge), for_a_while)
            stage.say("making it so")
            apply(edge)
            yield _everywhere(
                "a TCP service leads to its new backend, and connections from before to theirs",
                edges,
                lambda edge: _moved(stage, edge, open_before[edge.name]),
            )
            claim = "a denied client is met with silence, counted as drop_denied"
            yield _everywhere(claim, edges, partial(_silent, stage, clients.GREEDY))
            yield _everywhere(
                "a bandwidth holds, and the service's class of HTB has sent it",
                edges,
                partial(_shaped, stage),
            )
            yield _live_rates(stage, edges[0])
            stage.say("denying by hand")
            deny(by_hand, "10m")
            deny(for_a_while, f"{SHORT_S}s")
            yield _everywhere(
                "xds-agent deny shuts an ordinary client out",
                edges,
                partial(_silent, stage, clients.ORDINARY),
            )
            yield _named(stage, (by_hand, for_a_while))
        yield _everywhere(
            "what is denied by hand outlives an edit of the inventory (that one taken back)",
            edges,
            partial(_silent, stage, clients.ORDINARY),
        )
        stage.say(f"waiting for the end of {SHORT_S} s")
        until(lambda: for_a_while not in _denied(stage), every_s=1)
        yield _everywhere(
            "it ends by itself at its time", edges, lambda edge: _let_in(stage, edge, clients.GREEDY)
        )
        deny(by_hand, "")
        yield _everywhere(
            "or before its time, by --lift", edges, lambda edge: _let_in(stage, edge, clients.ORDINARY)
        )
    yield _no_drift(stage)
    yield untouched(playbooks.run("routes.yml", stage.place))
    yield lossless(watches)


def edit(stage: Stage) -> dict[str, Any]:
    """The overlay: three things that other files say, said otherwise."""
    backend = stage.place.host("backend-gcp1")
    endpoint = {"address": backend.address, "port": ECHO_PORT, "cloud": backend.cloud}
    denied = (f"{clients.address(stage.place, 64)}/26", _network(stage, clients.GREEDY))
    return {
        "services": [
            {"name": "echo-xdp", "endpoints": [endpoint], "steering": {"order": [backend.cloud]}},
            {"name": "echo", "bandwidth": {"egress": f"{RATE_BITS // 1_000_000}mbit"}},
        ],
        "protection": {"deny": list(denied)},
    }


def announced(ended: playbooks.Ended, denied: str) -> Shown:
    """What --check --diff said, against what was edited."""
    words = ("echo-xdp: ", "echo: bandwidth set to (egress 8mbit)", f"protection.deny gains {denied}")
    good = ended.succeeded and ended.changed > 0 and all(word in ended.diff for word in words)
    return Shown("--check --diff says all three in words", ended.diff.strip() or ended.message, good)


def _checked(stage: Stage, edge: Mapping[str, Any]) -> playbooks.Ended:
    path = stage.inventory.parent / "edge" / "overlays" / f"demo-{NAME}.yml"
    write(path, edge)
    try:
        return playbooks.run("routes.yml", stage.place, "--check", "--diff", *meant(["echo-xdp"]))
    finally:
        take_away(path)


def _everywhere(claim: str, edges: Iterable[HostSpec], look: Where) -> Shown:
    """One row for all edges. `look` returns what it met, and raises LabError for what is not as claimed."""

    def one(edge: HostSpec) -> tuple[bool, str]:
        try:
            return True, f"{edge.name}: {look(edge)}"
        except (LabError, OSError) as problem:
            return False, f"{edge.name}: {problem}"

    with ThreadPoolExecutor() as pool:
        met = list(pool.map(one, edges))
    return Shown(claim, "\n".join(words for _, words in met), all(good for good, _ in met))


@contextmanager
def _open(stage: Stage, edges: Iterable[HostSpec]) -> Iterator[Mapping[str, tuple[socket.socket, str]]]:
    """A connection through each edge, and the backend at its other end."""
    with contextlib.ExitStack() as opened:
        found = {}
        for edge in edges:
            connection = opened.enter_context(_connected(stage, clients.ORDINARY, vip(edge), TCP_PORT))
            found[edge.name] = connection, _backend(connection)
        yield found


def _connected(stage: Stage, client: int, address: str, port: int) -> socket.socket:
    return clients.connected(stage.place, client, (address, port), timeout_s=_ANSWER_S)


def _backend(connection: socket.socket) -> str:
    """Who greets at the other end."""
    words = b""
    while b"\n" not in words and (piece := connection.recv(1)):
        words += piece
    return str(json.loads(words)["host"]) if words else "nobody"


def _moved(stage: Stage, edge: HostSpec, before: tuple[socket.socket, str]) -> str:
    was, (connection, its_backend) = counters(edge), before
    connection.sendall(b"still here\n")
    kept = connection.makefile("rb").readline()
    with _connected(stage, clients.ORDINARY, vip(edge), TCP_PORT) as fresh:
        backend = _backend(fresh)
    sent = asked.grown(was, edge, "echo-xdp", "send_nat")
    words = f"{backend} answers, {sent} packets counted as send_nat"
    if backend != "backend-gcp1" or not sent:
        raise LabError(words)
    if kept != b"still here\n":
        raise LabError(f"the connection to {its_backend} is gone ({kept!r})")
    return f"{words}; the one from before is still {its_backend}'s"


def _silent(stage: Stage, client: int, edge: HostSpec) -> str:
    was = counters(edge)
    try:
        clients.connected(stage.place, client, (vip(edge), TCP_PORT), timeout_s=asked.SILENCE_S).close()
    except TimeoutError:
        dropped = asked.grown(was, edge, "host", "drop_denied") + asked.grown(
            was, edge, "echo-xdp", "drop_denied"
        )
        if not dropped:
            raise LabError("silence, and nothing counted") from None
        return f"silence, {dropped} packets counted"
    raise LabError("let in")


def _let_in(stage: Stage, edge: HostSpec, client: int) -> str:
    with _connected(stage, client, vip(edge), TCP_PORT) as connection:
        return f"let in, {_backend(connection)} answers"


def _shaped(stage: Stage, edge: HostSpec) -> str:
    handle = _class_of(edge, "echo")
    was, began = _sent_bytes(edge, handle), time.monotonic()
    with _connected(stage, clients.ORDINARY, edge.address, ECHO_PORT) as connection:
        _backend(connection)
        sender = threading.Thread(target=connection.sendall, args=(bytes(TRANSFER_BYTES),), daemon=True)
        sender.start()
        received = 0
        while received < TRANSFER_BYTES and (piece := connection.recv(1 << 16)):
            received += len(piece)
        sender.join()
    rate = received * 8 / (time.monotonic() - began)
    sent = _sent_bytes(edge, handle) - was
    words = f"{received >> 10} KiB at {rate / 1e6:.1f} Mbit/s; class {handle} sent {sent >> 10} KiB"
    if received != TRANSFER_BYTES or rate > RATE_BITS * TOLERATED or sent < TRANSFER_BYTES:
        raise LabError(words)
    return words


def _class_of(edge: HostSpec, service: str) -> str:
    """The service's class of HTB, 1:100 and its number."""
    said = json.loads(podman("exec", edge.container, "xds-agent", "datapath", "status", "--json"))
    [number] = [one["id"] for one in said["services"] if one["name"] == service]
    return f"1:{0x100 + number:x}"


def _sent_bytes(edge: HostSpec, handle: str) -> int:
    shown = podman("exec", edge.container, "tc", "-s", "class", "show", "dev", "eth0", "classid", handle)
    words = shown.split()
    return int(words[words.index("Sent") + 1]) if "Sent" in words else 0


def _live_rates(stage: Stage, edge: HostSpec) -> Shown:
    """`datapath top` while a denied client, an ordinary one and the steady requests over HTTPS send."""
    over, sending = threading.Event(), threading.Event()

    def send() -> None:
        with (
            clients.datagrams(stage.place, clients.GREEDY, timeout_s=_ANSWER_S) as denied,
            _connected(stage, clients.ORDINARY, vip(edge), TCP_PORT) as connection,
        ):
            while not over.wait(0.02):
                denied.sendto(b"x", (edge.address, 9999))
                connection.sendall(b"x")
                sending.set()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        sending.wait(_ANSWER_S)
        top = ("xds-agent", "datapath", "top", "--count", "1", "--interval", "5", "--json")
        said = json.loads(podman("exec", edge.container, *top))
    finally:
        over.set()
        sender.join()
    rates = said["packets_per_second"]
    met = [("host", "drop_denied"), ("echo-xdp", "send_nat"), ("envoy/https", "pass_kernel")]
    words = [f"{name} {reason} {rates.get(name, {}).get(reason, 0):g}/s" for name, reason in met]
    shares = [f"{share:g} % by {tier}" for tier, share in said["share_percent"].items()]
    good = all(reason in rates.get(name, {}) for name, reason in met)
    return Shown("xds-agent datapath top shows it while it happens", ", ".join((*words, *shares)), good)


@contextmanager
def _valve(stage: Stage) -> Iterator[Callable[[str, str], None]]:
    """`xds-agent deny NETWORK --for TIME`, without a time --lift; what is left in the end is lifted."""
    shut: set[str] = set()

    def deny(network: str, time: str) -> None:
        shut.add(network)
        _control(stage, "deny", network, *(("--for", time, "--reason", "demo") if time else ("--lift",)))
        if not time:
            shut.discard(network)

    try:
        yield deny
    finally:
        for network in shut & _denied(stage):
            _control(stage, "deny", network, "--lift")


def _denied(stage: Stage) -> set[str]:
    return {one["network"] for one in _control(stage, "deny")["denials"]}


def _named(stage: Stage, networks: tuple[str, ...]) -> Shown:
    notes = [one for one in _control(stage, "status")["notes"] if one.startswith("drift: ")]
    reasons = [one["reason"] for one in _control(stage, "history")["revisions"]]
    good = all(
        any(f"{network} is denied by hand until" in one and " by root@" in one for one in lines)
        for network in networks
        for lines in (notes, reasons)
    )
    return Shown(
        "status names both as drift, the history who and why", "\n".join((*notes, *reasons[:2])), good
    )


def _no_drift(stage: Stage) -> Shown:
    notes = [one for one in _control(stage, "status")["notes"] if one.startswith("drift: ")]
    left = _denied(stage)
    came = "\n".join((*notes, *sorted(left))) or "no drift, nothing denied by hand"
    return Shown("status knows of no drift any more", came, not notes and not left)


def _network(stage: Stage, client: int) -> str:
    return f"{clients.address(stage.place, client)}/32"


def _control(stage: Stage, *command: str) -> Any:
    control = stage.place.in_group("control")[0]
    return json.loads(podman("exec", control.container, "xds-agent", *command, "--json"))


DEMO = Demo(NAME, "an edit of the datapath, and networks denied by hand, confirmed by counters", STORY, play)
