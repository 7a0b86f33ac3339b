"""HTB classes of single services on an interface's egress, below those of P0 to P3.

The tree is that of the module `tc_qos` (role nic): 1:1 the link, 1:10 to 1:13 P0 to P3, from 1:100 on a class
for each service that has a bandwidth. Where nobody has made it, it is made here, as of a link without limits.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAJOR = 0x10000
LINK = MAJOR | 1
FIRST = MAJOR | 0x10
FIRST_OF_SERVICES = MAJOR | 0x100
CLASSES = 4
_ROOT = 0xFFFFFFFF
# What a kernel puts there by itself.
_DEFAULTS = frozenset({"noqueue", "mq", "pfifo_fast", "fq_codel", "fq"})
# As large as 32 bits of bytes a second take: the link itself is not shaped then.
_ANY_LINK_BYTES = 4_000_000_000
_SHARES = (20, 40, 30, 10)
_LEAST_BURST_BYTES = 3200


class HtbError(ValueError):
    """The egress of an interface cannot be shaped; the words name it and the remedy."""


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """Below which class of P0 to P3 (0 to 3), and how many bits per second at most."""

    qos: int
    bits: int


def class_of(qos: int) -> int:
    """skb->priority of P0 to P3."""
    return FIRST + qos


def class_of_service(number: int) -> int:
    """skb->priority of a service by its number in the maps."""
    return FIRST_OF_SERVICES + number


def bring(interface: str, index: int, wanted: Mapping[int, ServiceClass]) -> None:
    """The classes of exactly these services (by number) on an interface. Raises HtbError."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        try:
            _bring(netlink, interface, index, wanted)
        except NetlinkError as error:
            raise HtbError(f"{interface}: tc refused a class of bandwidth: {error}") from error


def _bring(netlink: Any, interface: str, index: int, wanted: Mapping[int, ServiceClass]) -> None:
    ours = _is_ours(netlink, interface, index, needed=bool(wanted))
    if not ours and not wanted:
        return
    if not ours:
        _make_tree(netlink, index)
    known = {one["handle"] for one in netlink.get_classes(index=index)}
    handles = {class_of_service(number): one for number, one in wanted.items()}
    for handle, one in sorted(handles.items()):
        parent, rate = class_of(one.qos), max(1, one.bits // 8)
        if handle in known and _parent(netlink, index, handle) != parent:
            _delete(netlink, index, handle)
            known.discard(handle)
        verb = "change-class" if handle in known else "add-class"
        netlink.tc(verb, **_class(index, handle, parent, rate=rate, ceil=rate, prio=one.qos))
        if handle not in known:
            _add_fair_queue(netlink, index, handle)
    for handle in sorted(known):
        if handle >= FIRST_OF_SERVICES and handle not in handles:
            _delete(netlink, index, handle)


def _add_fair_queue(netlink: Any, index: int, parent: int) -> None:
    """So that one flow of the service does not keep the others waiting; a kernel without it does without."""
    from pyroute2 import NetlinkError

    try:
        netlink.tc("add", kind="fq_codel", index=index, handle=0, parent=parent)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise


def _is_ours(netlink: Any, interface: str, index: int, *, needed: bool) -> bool:
    for qdisc in netlink.get_qdiscs(index=index):
        kind = qdisc.get_attr("TCA_KIND")
        if qdisc["parent"] != _ROOT or kind in _DEFAULTS or qdisc["handle"] == 0:
            continue
        if kind == "htb" and any(one["handle"] == LINK for one in netlink.get_classes(index=index)):
            return True
        if needed:
            raise HtbError(
                f"{interface}: {kind} stands at the root of its egress, and not by us: bandwidth needs HTB "
                f"there; remove it (tc qdisc del dev {interface} root)"
            )
    return False


def _make_tree(netlink: Any, index: int) -> None:
    netlink.tc("add", kind="htb", index=index, handle=MAJOR, default=(FIRST + CLASSES - 1) & 0xFFFF)
    link = _ANY_LINK_BYTES
    netlink.tc("add-class", **_class(index, LINK, MAJOR, rate=link, ceil=link, prio=0))
    for qos, share in enumerate(_SHARES):
        one = _class(index, class_of(qos), LINK, rate=link * share // 100, ceil=link, prio=qos)
        netlink.tc("add-class", **one)


def _class(index: int, handle: int, parent: int, *, rate: int, ceil: int, prio: int) -> dict[str, Any]:
    """Rates in bytes per second. pyroute2's own bursts are none at all for fast links."""
    return {
        "kind": "htb", "index": index, "handle": handle, "parent": parent, "prio": prio,
        "rate": rate, "ceil": ceil, "burst": _burst(rate), "cburst": _burst(ceil),
    }  # fmt: skip


def _burst(rate: int) -> int:
    return max(_LEAST_BURST_BYTES, rate // 1000)


def _parent(netlink: Any, index: int, handle: int) -> int:
    found = [one["parent"] for one in netlink.get_classes(index=index) if one["handle"] == handle]
    return int(found[0]) if found else 0


def _delete(netlink: Any, index: int, handle: int) -> None:
    netlink.tc("del-class", index=index, handle=handle)
