"""Proof before a program is attached: packets with known fates through a copy of it on this kernel.

The copy has maps of its own, so that nothing of the live site is touched. `fixtures.json` is made from the
oracle of tests/bpf: a site, then frames with what must become of each, in their order.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from xds_agent.datapath.acl import AccessLists, Rule
from xds_agent.datapath.counters import Counters
from xds_agent.datapath.limit import Rate
from xds_agent.datapath.maglev import Ring, populate
from xds_agent.datapath.program import DROP, PASS, TX, Features, Generation, Sizes, load
from xds_agent.datapath.services import Real, Service, Settings, Tables

VERDICTS = {"drop": DROP, "pass": PASS, "send": TX}
_MOST = 5  # differences are enough to know


def prove(path: Path) -> list[str]:
    """What differs, in words; an empty list is a proof. Raises as `load` does."""
    known = fixtures()
    generation = load(path, sizes=Sizes(**known["sizes"]), features=Features(**known["features"]))
    try:
        furnish(generation, known)
        return _run(generation, known["packets"])
    finally:
        generation.close()


@cache
def fixtures() -> dict[str, Any]:
    """Site and packets."""
    loaded: dict[str, Any] = json.loads(files("xds_agent.datapath").joinpath("fixtures.json").read_text())
    return loaded


def furnish(generation: Generation, known: dict[str, Any]) -> None:
    """The site of the fixtures into a program's maps."""
    tables, lists = Tables(generation), AccessLists(generation)
    tables.configure(Settings(**{name: _setting(value) for name, value in known["settings"].items()}))
    for number, address, mac, port in known["reals"]:
        tables.put_real(number, Real(ip_address(address), bytes.fromhex(mac), port=port))
    addresses = {number: address for number, address, _, _ in known["reals"]}
    for ring, numbers in known["rings"].items():
        tables.put_ring(int(ring), Ring(populate({n: (addresses[n], 1) for n in numbers})))
    for service in known["services"]:
        tables.put_service(Service(**{**service, "address": ip_address(service["address"])}))
    rules: list[Rule] = []
    for network, kind in known["rules"]:
        rules.append((ip_network(network), lists.classes[kind]))
    lists.replace(rules)


def _setting(value: Any) -> Any:
    if isinstance(value, list):
        return Rate(per_second=value[0], burst=value[1])
    return ip_address(value) if isinstance(value, str) else value


def _run(generation: Generation, packets: list[dict[str, Any]]) -> list[str]:
    counters, problems = Counters(generation), []
    for number, packet in enumerate(packets):
        frame, reason, service = bytes.fromhex(packet["frame"]), packet["reason"], packet["service"]
        before = counters.service(service).get(reason)
        verdict, received = generation.run(frame)
        after = counters.service(service).get(reason)
        wanted = bytes.fromhex(packet.get("leaves", packet["frame"]))
        if verdict != VERDICTS[reason.split("_")[0]] or after == before:
            problems.append(f"packet {number}: not {reason} of service {service} (verdict {verdict})")
        elif verdict != DROP and received != wanted:
            problems.append(f"packet {number} ({reason}): left as {received.hex()}, not {wanted.hex()}")
        if len(problems) == _MOST:
            break
    return problems
