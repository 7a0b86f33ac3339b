"""HTB classes of single services on an interface's egress, below those of P0 to P3.

The tree is that of the module `tc_qos` (role nic): 1:1 the link, 1:10 to 1:13 P0 to P3, from 1:100 on a class
for each service that has a bandwidth. Where nobody has made it, it is made here, as of a link without limits.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass
from typing import Any

MAJOR = 0x10000
LINK = MAJOR | 1
FIRST = MAJOR | 0x10
FIRST_OF_SERVICES = MAJOR | 0x100
CLASSES = 4
_FIRSTS = tuple(FIRST + qos for qos in range(CLASSES))
_MAJORS = 0xFFFF0000
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


@dataclass(frozen=True, slots=True)
class Made:
    """What we put on an interface's egress, and may take away: the tree, classes of services by handle."""

    tree: bool = False
    classes: frozenset[int] = frozenset()


NOTHING = Made()


def bring(
    interface: str,
    index: int,
    wanted: Mapping[int, ServiceClass],
    *,
    made: Made,
    keep: Callable[[Made], None],
) -> None:
    """The classes of exactly these services (by number) on an interface; what others made there stays.

    `keep` is told what is ours from then on, before it is made and after it is gone. Raises HtbError.
    """
    from pyroute2 import IPRoute, NetlinkError

    if not wanted and made == NOTHING:
        return
    with IPRoute() as netlink:
        try:
            _bring(netlink, interface, index, wanted, made, keep)
        except NetlinkError as error:
            raise HtbError(f"{interface}: tc refused a class of bandwidth: {error}") from error


def stands(index: int, services: Collection[int]) -> bool:
    """Whether all classes of these services (by number) are below HTB at the root. Raises HtbError."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as netlink:
        try:
            return {class_of_service(number) for number in services} <= _parents(netlink, index).keys()
        except NetlinkError as error:
            raise HtbError(f"tc does not tell the classes of interface {index}: {error}") from error


def _bring(
    netlink: Any, interface: str, index: int, wanted: Mapping[int, ServiceClass], made: Made,
    keep: Callable[[Made], None],
) -> None:  # fmt: skip
    parents = _parents(netlink, index)
    ours = _is_ours(netlink, interface, index, parents, made, needed=bool(wanted))
    if not ours:
        made = Made(tree=bool(wanted))
    if not ours and not wanted:
        keep(made)
        return
    handles = {class_of_service(number): one for number, one in wanted.items()}
    keep(Made(made.tree, made.classes | handles.keys()))
    if made.tree:
        _make_tree(netlink, index, parents if ours else None)
    for handle, one in sorted(handles.items()):
        _put_class(netlink, interface, index, handle, one, parents, made)
    for handle in sorted((made.classes & parents.keys()) - handles.keys()):
        netlink.tc("del-class", index=index, handle=handle)
    if made.tree and not handles and not _is_others_too(netlink, index):
        # The kernel puts its own discipline of all queues back.
        netlink.tc("del", index=index, parent=_ROOT)
        made = NOTHING
    keep(Made(made.tree, frozenset(handles)))


def _put_class(
    netlink: Any, interface: str, index: int, handle: int, one: ServiceClass, parents: Mapping[int, int],
    made: Made,
) -> None:  # fmt: skip
    parent, rate = class_of(one.qos), max(1, one.bits // 8)
    known = handle in parents
    if known and parents[handle] != parent:
        if handle not in made.classes:
            name = f"{handle >> 16:x}:{handle & 0xFFFF:x}"
            raise HtbError(
                f"{interface}: class {name} stands there, and not by us: remove it "
                f"(tc class del dev {interface} classid {name})"
            )
        netlink.tc("del-class", index=index, handle=handle)
        known = False
    verb = "change-class" if known else "add-class"
    netlink.tc(verb, **_class(index, handle, parent, rate=rate, ceil=rate, prio=one.qos))
    if not known:
        _add_fair_queue(netlink, index, handle)


def _add_fair_queue(netlink: Any, index: int, parent: int) -> None:
    """So that one flow of the service does not keep the others waiting; a kernel without it does without."""
    from pyroute2 import NetlinkError

    try:
        netlink.tc("add", kind="fq_codel", index=index, handle=0, parent=parent)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise


def _is_ours(
    netlink: Any, interface: str, index: int, parents: Mapping[int, int], made: Made, *, needed: bool
) -> bool:
    """Whether all of our tree stands at the root, or what we made of it so far. A class 1:1 alone is
    anybody's: it is the commonest number by hand."""
    for qdisc in netlink.get_qdiscs(index=index):
        kind = qdisc.get_attr("TCA_KIND")
        if qdisc["parent"] != _ROOT or kind in _DEFAULTS or qdisc["handle"] == 0:
            continue
        if kind == "htb" and qdisc["handle"] == MAJOR:
            whole = parents.get(LINK) == _ROOT and all(parents.get(one) == LINK for one in _FIRSTS)
            if whole or (made.tree and parents.keys() <= {LINK, *_FIRSTS, *made.classes}):
                return True
        if needed:
            raise HtbError(
                f"{interface}: {kind} stands at the root of its egress, and not by us: bandwidth needs HTB "
                f"there; remove it (tc qdisc del dev {interface} root)"
            )
    return False


def _make_tree(netlink: Any, index: int, known: Container[int] | None) -> None:
    """All of it that is not known yet; None: nor is the root."""
    if known is None:
        known = ()
        netlink.tc("add", kind="htb", index=index, handle=MAJOR, default=_FIRSTS[-1] & 0xFFFF)
    link = _ANY_LINK_BYTES
    if LINK not in known:
        netlink.tc("add-class", **_class(index, LINK, MAJOR, rate=link, ceil=link, prio=0))
    for qos, share in enumerate(_SHARES):
        if class_of(qos) not in known:
            one = _class(index, class_of(qos), LINK, rate=link * share // 100, ceil=link, prio=qos)
            netlink.tc("add-class", **one)


def _is_others_too(netlink: Any, index: int) -> bool:
    """True once somebody has given our tree the rate of a link (the module tc_qos), or put a class or a
    discipline below it: with the root it would go."""
    if any(one["parent"] in (LINK, *_FIRSTS) and one["handle"] for one in netlink.get_qdiscs(index=index)):
        return True
    if not _parents(netlink, index).keys() <= {LINK, *_FIRSTS}:
        return True
    for one in netlink.get_classes(index=index):
        if one["handle"] == LINK:
            options = one.get_attr("TCA_OPTIONS")
            rate = options.get_attr("TCA_HTB_RATE64") or options.get_attr("TCA_HTB_PARMS")["rate"]
            return int(rate) != _ANY_LINK_BYTES
    return True


def _class(index: int, handle: int, parent: int, *, rate: int, ceil: int, prio: int) -> dict[str, Any]:
    """Rates in bytes per second. pyroute2's own bursts are none at all for fast links."""
    return {
        "kind": "htb", "index": index, "handle": handle, "parent": parent, "prio": prio,
        "rate": rate, "ceil": ceil, "burst": _burst(rate), "cburst": _burst(ceil),
    }  # fmt: skip


def _burst(rate: int) -> int:
    return max(_LEAST_BURST_BYTES, rate // 1000)


def _parents(netlink: Any, index: int) -> dict[int, int]:
    """Parent by handle of the classes of qdisc 1:. The kernel lists those of every qdisc of the card: of
    others' nested ones, and each flow of a fair queue."""
    return {
        one["handle"]: one["parent"]
        for one in netlink.get_classes(index=index)
        if one["handle"] & _MAJORS == MAJOR and one.get_attr("TCA_KIND") == "htb"
    }
