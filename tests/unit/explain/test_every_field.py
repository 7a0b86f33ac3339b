"""Nothing an inventory says can change without a word: every field of the model, and any mix of edits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.full_edge import Place, alternatives, found, full_site, places, replaced
from xds_agent.explain.changes import NOTHING, REWRITTEN, describe
from xds_agent.model import Site

SITE = full_site()
EDGE_PLACES = [place for place in places(SITE.edge) if alternatives(SITE.edge, place)]
HOST_PLACES = [place for place in places(SITE.hosts["edge1"]) if place != ("name",)]


def _label(place: Place) -> str:
    return ".".join(str(step) for step in place)


@pytest.mark.parametrize("place", EDGE_PLACES, ids=_label)
def test_every_change_of_a_field_is_told_both_ways(place: Place) -> None:
    for value in alternatives(SITE.edge, place):
        other = replace(SITE, edge=replaced(SITE.edge, place, value))
        if other.edge == SITE.edge:
            continue
        for old, new in ((SITE, other), (other, SITE)):
            assert _told(old, new), f"{_label(place)} -> {value!r} is not told"


@pytest.mark.parametrize("place", HOST_PLACES, ids=_label)
def test_every_change_of_a_host_is_told(place: Place) -> None:
    host = SITE.hosts["edge1"]
    for value in alternatives(host, place):
        other = replace(SITE, hosts={"edge1": replaced(host, place, value)})
        assert _told(SITE, other), f"host {_label(place)} -> {value!r} is not told"


def test_the_full_site_has_a_value_in_every_field() -> None:
    fields = {place[1:] for place in EDGE_PLACES if place[:1] == ("services",)}
    assert (0, "health", "interval") in fields
    assert (0, "auth", "tokens", "key1") in fields


@given(data=st.data())
@settings(max_examples=150)
def test_two_sites_that_differ_give_a_line_and_equal_ones_none(data: st.DataObject) -> None:
    edge = SITE.edge
    for _ in range(data.draw(st.integers(0, 4))):
        # An earlier edit may have taken the place away.
        place = data.draw(st.sampled_from([one for one in EDGE_PLACES if _exists(edge, one)]))
        options = alternatives(edge, place)
        if options:
            edge = replaced(edge, place, data.draw(st.sampled_from(options)))
    other = replace(SITE, edge=edge)
    changes = describe(SITE, other, {}, {})
    assert bool(_told(SITE, other)) == (other.edge != SITE.edge)
    assert (changes.summary == NOTHING) == (not changes.lines)
    assert describe(other, other, {}, {}).lines == ()
    assert not any("hidden-" in line.text for line in changes.lines)


def _told(old: Site, new: Site) -> list[str]:
    """The lines, without the last resort that would hide a field nobody has words for."""
    return [line.text for line in describe(old, new, {}, {}).lines if line.text != REWRITTEN]


def _exists(node: object, place: Place) -> bool:
    try:
        found(node, place)
    except (AttributeError, IndexError, KeyError, TypeError):
        return False
    return True
