"""The module `tc_qos`: a class of HTB for each of P0 to P3."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.marchproxy.edge.plugins.module_utils import htb
from ansible_collections.marchproxy.edge.plugins.module_utils.htb import Class, HtbError, Tree
from hypothesis import assume, given
from hypothesis import strategies as st

EMPTY = Tree("", {})


def test_the_default_shares_fill_the_link() -> None:
    tree = htb.wanted_tree("ens5", "1gbit", {})
    words = {htb.classid(one.handle): one.words() for one in tree.classes.values()}
    assert words == {
        "1:1": "rate 1gbit, ceil 1gbit, prio 0",
        "1:10": "rate 200mbit, ceil 1gbit, prio 0",
        "1:11": "rate 400mbit, ceil 1gbit, prio 1",
        "1:12": "rate 300mbit, ceil 1gbit, prio 2",
        "1:13": "rate 100mbit, ceil 1gbit, prio 3",
    }


@pytest.mark.parametrize(
    ("rate", "classes", "words"),
    [
        ("fast", {}, "ens5: rate: 'fast' is no bit rate"),
        ("1gbit", {"P4": {}}, "classes.P4: there are P0, P1, P2, P3"),
        ("1gbit", {"P0": {"rate": "2gbit"}}, "classes.P0.ceil: 1gbit is not from its rate 2gbit"),
        ("1gbit", {"P0": {"ceil": "2gbit"}}, "classes.P0.ceil: 2gbit is not from its rate 200mbit to"),
        ("1gbit", {"P0": {"rate": "70%"}}, "sum up to 1500mbit, and the link has 1gbit"),
        ("1gbit", {"P3": {"rate": "0%"}, "P0": {"rate": "x"}}, "classes.P0: 'x' is no bit rate"),
    ],
)
def test_trees_that_cannot_be(rate: str, classes: dict[str, Any], words: str) -> None:
    with pytest.raises(HtbError) as error:
        htb.wanted_tree("ens5", rate, classes)
    assert words in str(error.value)


def _apply(now: Tree, steps: list[htb.Step]) -> Tree:
    """What the kernel would hold after the steps."""
    kind, classes = now.kind, dict(now.classes)
    for step in steps:
        if step.verb == "add":
            kind, classes = "htb", {}
        elif step.verb == "del":
            kind, classes = "", {}
        elif step.verb == "del-class":
            del classes[step.arguments["handle"]]
        else:
            said = step.arguments
            assert (said["handle"] in classes) == (step.verb == "change-class")
            classes[said["handle"]] = Class(
                said["handle"], said["parent"], said["rate"] * 8, said["ceil"] * 8, said["prio"]
            )
    return Tree(kind, classes)


links = st.integers(8, 100_000).map(lambda n: f"{n}mbit")


@given(links, links)
def test_a_plan_reaches_what_is_wanted_and_then_has_nothing_to_do(one: str, other: str) -> None:
    first = _apply(EMPTY, htb.plan("ens5", 3, EMPTY, htb.wanted_tree("ens5", one, {})))
    assert htb.plan("ens5", 3, first, htb.wanted_tree("ens5", one, {})) == []
    second = htb.wanted_tree("ens5", other, {})
    steps = htb.plan("ens5", 3, first, second)
    assert htb.plan("ens5", 3, _apply(first, steps), second) == []
    assume(one != other)
    assert {step.verb for step in steps} == {"change-class"}
    assert _apply(first, htb.plan("ens5", 3, first, None)) == EMPTY


def test_another_discipline_at_the_root_is_not_replaced() -> None:
    wanted = htb.wanted_tree("ens5", "1gbit", {})
    with pytest.raises(HtbError, match="tbf stands at the root already, and not by us: remove it"):
        htb.plan("ens5", 3, Tree("tbf", {}), wanted)
    assert htb.plan("ens5", 3, Tree("tbf", {}), None) == []


def _class(handle: int, parent: int = htb.LINK) -> Class:
    return Class(handle, parent, 8_000_000, 8_000_000, 0)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (Tree("htb", {0x10005: _class(0x10005, htb.ROOT)}), r"htb 1: \(classes: 1:5\)"),
        # As everybody writes it by hand: 1:1 is the link there too.
        (
            Tree("htb", {at: _class(at) for at in (htb.LINK, 0x10010, 0x10020)}, default=0x10020),
            r"htb 1: \(classes: 1:1, 1:10, 1:20\)",
        ),
        (Tree("htb", {htb.LINK: _class(htb.LINK, htb.ROOT)}, default=0x10001), r"htb 1: \(classes: 1:1\)"),
        (Tree("htb", {}, handle=0x70000, default=0), r"htb 7: \(classes: none\)"),
    ],
)
def test_an_htb_by_hand_is_neither_changed_nor_taken_away(tree: Tree, named: str) -> None:
    words = f"ens5: {named} stands at the root already, and not by us: remove it .tc qdisc del dev ens5 root"
    with pytest.raises(HtbError, match=words):
        htb.plan("ens5", 3, tree, htb.wanted_tree("ens5", "1gbit", {}))
    assert htb.plan("ens5", 3, tree, None) == []


def test_a_tree_whose_making_was_interrupted_is_completed() -> None:
    wanted = htb.wanted_tree("ens5", "1gbit", {})
    steps = htb.plan("ens5", 3, EMPTY, wanted)
    for done in range(1, len(steps)):
        begun = _apply(EMPTY, steps[:done])
        assert _apply(begun, htb.plan("ens5", 3, begun, wanted)) == wanted


def test_classes_of_services_are_the_agents() -> None:
    wanted = htb.wanted_tree("ens5", "1gbit", {})
    service = _class(htb.FIRST_OF_SERVICES + 7, htb.FIRST)
    assert htb.plan("ens5", 3, Tree("htb", {**wanted.classes, service.handle: service}), wanted) == []


def test_a_class_that_others_put_into_the_tree_is_named() -> None:
    wanted = htb.wanted_tree("ens5", "1gbit", {})
    stray = _class(htb.FIRST + 9)
    now = Tree("htb", {**wanted.classes, stray.handle: stray})
    for asked in (wanted, None):
        with pytest.raises(HtbError, match=r"1:19 stands in the tree, .*remove it \(tc class del dev ens5"):
            htb.plan("ens5", 3, now, asked)


def test_undo_of_a_change_is_what_was() -> None:
    now = htb.wanted_tree("ens5", "1gbit", {})
    steps = htb.plan("ens5", 3, now, htb.wanted_tree("ens5", "2gbit", {}))
    (undo,) = steps[1].undo
    assert " ".join(undo[:9]) == "tc class change dev ens5 parent 1:1 classid 1:10"
    assert " ".join(undo[9:]) == "htb rate 200000000bit ceil 1000000000bit prio 0"
