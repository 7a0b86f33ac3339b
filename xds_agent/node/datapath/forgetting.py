"""Everything of the datapath off a host whose inventory asks for none any more."""

from __future__ import annotations

import shutil
from ipaddress import ip_address
from pathlib import Path

from xds_agent.datapath.htb import HtbError
from xds_agent.node.datapath import confirmed
from xds_agent.node.datapath.attachment import LINKS
from xds_agent.node.datapath.network import Network, NetworkError
from xds_agent.node.datapath.shaped import FILE as SHAPED
from xds_agent.node.datapath.shaped import Record
from xds_agent.node.datapath.shaping import forget_interface

# As DatapathLink names them.
_VIPS, _RINGS, _STATE, _CONFIRMED = "vips", "rings", "datapath.json", "datapath.confirmed"


class ForgetError(Exception):
    """What could not be taken away; all else is gone."""


def forget(*, pins: Path, runtime: Path, lasting: Path) -> list[str]:
    """Programs, pinned maps, filters, classes and vips go; the agent must not run them. Needs no libbpf.

    Returns what there was, in words. Raises ForgetError once all else is done.
    """
    problems: list[str] = []
    found = [f"XDP on {pin.name}" for pin in sorted((pins / LINKS).glob("*"))]
    record = Record(runtime / SHAPED)
    for name in sorted(record.read()):
        try:
            forget_interface(record, name)
            found.append(f"tc on {name}")
        except (OSError, HtbError) as error:
            problems.append(str(error))
    shutil.rmtree(pins, ignore_errors=True)
    if pins.exists():
        problems.append(f"{pins}: something in it cannot be removed")
    vips = runtime / _VIPS
    for vip in vips.read_text(encoding="ascii").split() if vips.exists() else ():
        try:
            with Network() as network:
                network.remove_address(ip_address(vip))
            found.append(f"vip {vip}")
        except NetworkError as error:
            problems.append(str(error))
    if problems:
        raise ForgetError("; ".join(problems))
    vips.unlink(missing_ok=True)
    shutil.rmtree(runtime / _RINGS, ignore_errors=True)
    for name in (SHAPED, _STATE):
        (runtime / name).unlink(missing_ok=True)
    # On probation again, should it come back.
    (lasting / _CONFIRMED).unlink(missing_ok=True)
    confirmed.forget(lasting / f"{_CONFIRMED}.objects")
    return found
