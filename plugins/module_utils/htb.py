"""A tree of HTB classes, one for each QoS class: what is there, what is wanted, what differs. Pure.

P0 is served first, whatever it may take; P3 gets what is left. Every class is sure of its rate and may
borrow up to its ceiling. The classes of single services (1:100 and up) belong to the node agent, which
knows the inventory; they are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLASSES = ("P0", "P1", "P2", "P3")
ROOT = 0x10000
LINK = 0x10001
FIRST = 0x10010
# Where packets go that nobody classified: P3.
DEFAULT = FIRST + 3
FIRST_OF_SERVICES = 0x10100
_FIRSTS = tuple(FIRST + at for at in range(len(CLASSES)))
_LEAST_BURST_BYTES = 3200
TC_H_ROOT = 0xFFFFFFFF
_MAJORS = 0xFFFF0000
# What each class is sure of when nothing is said, in percent of the link.
SHARES = {"P0": 20, "P1": 40, "P2": 30, "P3": 10}
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


class HtbError(Exception):
    """A tree that cannot be; the words name the place and the remedy."""


@dataclass(frozen=True)
class Class:
    """One HTB class. Rates in bits per second."""

    handle: int
    parent: int
    rate: int
    ceil: int
    prio: int

    def words(self) -> str:
        """For people: rate, ceiling, priority."""
        return f"rate {bits_words(self.rate)}, ceil {bits_words(self.ceil)}, prio {self.prio}"


@dataclass(frozen=True)
class Tree:
    """What stands at the root of an interface's egress. `kind` "" is nothing or the kernel's own default.

    `handle`, `default`: of the HTB at the root, and the class in it of what nobody classified.
    """

    kind: str
    classes: Mapping[int, Class]
    handle: int = ROOT
    default: int = DEFAULT

    @property
    def ours(self) -> bool:
        """All classes of a link stand there; or it is what an interrupted run left of them. A class 1:1 alone
        is anybody's: it is the commonest number by hand."""
        if self.kind != "htb" or self.handle != ROOT:
            return False
        parents = {handle: one.parent for handle, one in self.classes.items()}
        whole = parents.get(LINK) == ROOT and all(parents.get(one) == LINK for one in _FIRSTS)
        return whole or (self.default == DEFAULT and parents.keys() <= {LINK, *_FIRSTS})


@dataclass(frozen=True)
class Step:
    """One call of tc, as pyroute2 takes it, and the commands that put back what was."""

    verb: str
    interface: str
    what: str
    before: str
    after: str
    arguments: Mapping[str, Any]
    undo: tuple[tuple[str, ...], ...]

    def line(self, value: str) -> str:
        return f"{self.interface} {self.what}: {value or 'none'}"


def bits(text: str) -> int:
    """ "200mbit" as bits per second; HtbError for what is no rate."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)bit", str(text).strip().lower())
    if not said or float(said[1]) <= 0:
        raise HtbError(f"{text!r} is no bit rate (such as 200mbit or 10gbit)")
    return int(float(said[1]) * _UNITS[said[2]])


def bits_words(value: int) -> str:
    """Bits per second as people write them."""
    for unit in ("g", "m", "k"):
        if value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}bit"
    return f"{value}bit"


def classid(handle: int) -> str:
    """A handle as tc writes it, 1:10."""
    return f"{handle >> 16:x}:{handle & 0xFFFF:x}"


def wanted_tree(interface: str, rate: str, classes: Mapping[str, Mapping[str, str | None]]) -> Tree:
    """The tree of a link; HtbError names a class that there is not, or rates that do not fit."""
    problems = []
    for name in classes:
        if name not in CLASSES:
            problems.append(f"{interface}: classes.{name}: there are {', '.join(CLASSES)}")
    try:
        link = bits(rate)
    except HtbError as error:
        raise HtbError(f"{interface}: rate: {error}") from None
    tree = {LINK: Class(LINK, ROOT, link, link, 0)}
    for at, name in enumerate(CLASSES):
        said = classes.get(name) or {}
        try:
            sure = _part(said.get("rate"), link, SHARES[name])
            most = _part(said.get("ceil"), link, 100)
        except HtbError as error:
            problems.append(f"{interface}: classes.{name}: {error}")
            continue
        if most < sure or most > link:
            bounds = f"from its rate {bits_words(sure)} to that of the link {bits_words(link)}"
            problems.append(f"{interface}: classes.{name}.ceil: {bits_words(most)} is not {bounds}")
        tree[FIRST + at] = Class(FIRST + at, LINK, sure, most, at)
    total = sum(one.rate for one in tree.values() if one.parent == LINK)
    if not problems and total > link:
        problems.append(
            f"{interface}: the classes' rates sum up to {bits_words(total)}, and the link has "
            f"{bits_words(link)}: lower one of classes.P0 to classes.P3"
        )
    if problems:
        raise HtbError("; ".join(problems))
    return Tree("htb", tree)


def _part(said: str | None, link: int, percent: int) -> int:
    if said is None:
        return link * percent // 100
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", str(said).strip())
    return int(link * float(share[1]) / 100) if share else bits(said)


def plan(interface: str, index: int, now: Tree, wanted: Tree | None) -> list[Step]:
    """Steps from what is there to what is wanted (None: nothing of ours), each alone harmless to traffic."""
    return list(_steps(interface, index, now, wanted))


def _steps(interface: str, index: int, now: Tree, wanted: Tree | None) -> Iterator[Step]:
    ours = now.ours
    if ours:
        _check_strays(interface, now)
    if wanted is None:
        if ours:
            undo = (
                _add_root(interface),
                *(_tc("add", interface, now.classes[at]) for at in sorted(now.classes)),
            )
            yield Step("del", interface, "qdisc", "htb", "", {"index": index, "parent": TC_H_ROOT}, undo)
        return
    if now.kind and not ours:
        words = f"{interface}: {_named(now)} stands at the root already, and not by us"
        raise HtbError(f"{words}: remove it (tc qdisc del dev {interface} root), or leave the interface out")
    if not ours:
        yield Step(
            "add", interface, "qdisc", now.kind, "htb",
            {"kind": "htb", "index": index, "handle": ROOT, "default": DEFAULT & 0xFFFF},
            (("tc", "qdisc", "del", "dev", interface, "root"),),
        )  # fmt: skip
    known = now.classes if ours else {}
    for handle, one in sorted(wanted.classes.items()):
        before = known.get(handle)
        if before is None or not _same(before, one):
            arguments = {
                "kind": "htb", "index": index, "handle": handle, "parent": one.parent,
                "rate": one.rate // 8, "ceil": one.ceil // 8, "prio": one.prio,
                "burst": _burst(one.rate), "cburst": _burst(one.ceil),
            }  # fmt: skip
            # With the root goes all below it.
            gone = (_del(interface, handle),) if ours else ()
            yield Step(
                "add-class" if before is None else "change-class", interface, f"class {classid(handle)}",
                before.words() if before else "", one.words(), arguments,
                (_tc("change", interface, before),) if before else gone,
            )  # fmt: skip


def _check_strays(interface: str, now: Tree) -> None:
    """What others put into our tree is theirs: it is neither deleted nor counted as a part of the link."""
    strays = [one for one in sorted(now.classes) if one < FIRST_OF_SERVICES and one not in (LINK, *_FIRSTS)]
    if strays:
        named = ", ".join(map(classid, strays))
        remedy = "; ".join(f"tc class del dev {interface} classid {classid(one)}" for one in strays)
        raise HtbError(
            f"{interface}: {named} {'stand' if len(strays) > 1 else 'stands'} in the tree, and not by us: "
            f"remove it ({remedy})"
        )


def _named(now: Tree) -> str:
    """Whoever made an HTB knows it by its numbers."""
    if now.kind != "htb":
        return now.kind
    classes = ", ".join(map(classid, sorted(now.classes))) or "none"
    return f"htb {now.handle >> 16:x}: (classes: {classes})"


def _add_root(interface: str) -> tuple[str, ...]:
    default = f"{DEFAULT & 0xFFFF:x}"
    return ("tc", "qdisc", "add", "dev", interface, "root", "handle", "1:", "htb", "default", default)


def _tc(verb: str, interface: str, one: Class) -> tuple[str, ...]:
    place = ("dev", interface, "parent", classid(one.parent), "classid", classid(one.handle))
    rates = ("rate", f"{one.rate}bit", "ceil", f"{one.ceil}bit", "prio", str(one.prio))
    return ("tc", "class", verb, *place, "htb", *rates)


def _del(interface: str, handle: int) -> tuple[str, ...]:
    return ("tc", "class", "del", "dev", interface, "classid", classid(handle))


def _burst(bits_per_second: int) -> int:
    """Bytes of a millisecond, two packets at least: pyroute2's own are none at all for fast links."""
    return max(_LEAST_BURST_BYTES, bits_per_second // 8 // 1000)


def _same(one: Class, other: Class) -> bool:
    """The kernel keeps whole bytes per second."""
    return (one.rate // 8, one.ceil // 8, one.prio, one.parent) == (
        other.rate // 8, other.ceil // 8, other.prio, other.parent,
    )  # fmt: skip


def tree_of(qdiscs: Sequence[Any], classes: Sequence[Any]) -> Tree:
    """pyroute2's messages of one interface as a tree."""
    for qdisc in qdiscs:
        kind = qdisc.get_attr("TCA_KIND")
        if qdisc["parent"] != TC_H_ROOT or kind in ("noqueue", "mq", "pfifo_fast", "fq_codel", "fq"):
            continue
        if qdisc["handle"] == 0:
            continue  # the kernel's own
        # The kernel lists the classes of every qdisc of the card, of nested ones too.
        found = {
            one["handle"]: _class(one)
            for one in classes
            if one.get_attr("TCA_KIND") == "htb" and one["handle"] & _MAJORS == qdisc["handle"]
        }
        return Tree(kind, found, qdisc["handle"], qdisc["handle"] | _default_of(qdisc))
    return Tree("", {})


def _default_of(qdisc: Any) -> int:
    """Minor number of the class of what nobody classified; 0 for what is no HTB."""
    if qdisc.get_attr("TCA_KIND") != "htb":
        return 0
    return int(qdisc.get_attr("TCA_OPTIONS").get_attr("TCA_HTB_INIT")["defcls"])


def _class(message: Any) -> Class:
    options = message.get_attr("TCA_OPTIONS")
    parms = options.get_attr("TCA_HTB_PARMS")
    rate = options.get_attr("TCA_HTB_RATE64") or parms["rate"]
    ceil = options.get_attr("TCA_HTB_CEIL64") or parms["ceil"]
    # A class below the root names no parent but TC_H_ROOT.
    parent = message["handle"] & _MAJORS if message["parent"] == TC_H_ROOT else message["parent"]
    return Class(message["handle"], parent, rate * 8, ceil * 8, parms["prio"])
