"""Merging the files of the edge: by name, whatever file a thing stands in and whatever order they come in."""

from __future__ import annotations

import copy
import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.site_inventory import ROOT
from xds_agent.model import Edge


def _edge_merge() -> ModuleType:
    """The module from its file: it is standard library only, and no collection loader is needed."""
    path = ROOT / "plugins" / "module_utils" / "edge_merge.py"
    spec = importlib.util.spec_from_file_location("edge_merge_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


edge_merge = _edge_merge()


def _merged(*files: Any, overlays: tuple[Any, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    merger = edge_merge.Merger()
    for index, document in enumerate(files):
        merger.add(copy.deepcopy(document), f"{index}.yml")
    for index, document in enumerate(overlays):
        merger.overlay(copy.deepcopy(document), f"overlays/{index}.yml")
    return merger.result(), [f"{p['path']}: {p['message']}" for p in merger.problems]


def test_sections_are_those_of_the_model() -> None:
    assert set(edge_merge.SECTIONS) == set(Edge.model_fields)
    lists = {key for key, field in Edge.model_fields.items() if str(field.annotation).startswith("tuple")}
    assert set(edge_merge.LISTS) == lists


names = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
items = st.fixed_dictionaries(
    {"name": names}, optional={"x": st.integers(), "y": st.lists(st.integers(), max_size=2)}
)
unnamed = st.fixed_dictionaries({"prefix": st.sampled_from(["/", "/a", "/b"])})
things = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["services", "domains"]), items), st.tuples(st.just("routes"), unnamed)
    ),
    max_size=8,
    unique_by=lambda pair: (pair[0], json.dumps(pair[1].get("name", pair[1]))),
)


@given(things=things, data=st.data())
@settings(max_examples=200)
def test_files_and_their_order_do_not_show(things: list[tuple[str, Any]], data: st.DataObject) -> None:
    def files(count: int) -> list[dict[str, list[Any]]]:
        made: list[dict[str, list[Any]]] = [{} for _ in range(count)]
        for section, item in data.draw(st.permutations(things)):
            made[data.draw(st.integers(0, count - 1))].setdefault(section, []).append(item)
        return made

    one, problems = _merged(*files(1))
    other, other_problems = _merged(*files(4))
    assert (one, problems, other_problems) == (other, [], [])


@given(first=st.lists(items, max_size=5), second=st.lists(items, max_size=5))
def test_a_name_is_kept_once_and_every_other_is_a_problem(first: list[Any], second: list[Any]) -> None:
    edge, problems = _merged({"services": first}, {"services": second})
    kept = [item["name"] for item in edge["services"]]
    assert kept == sorted({item["name"] for item in first + second})
    assert len(problems) == len(first) + len(second) - len(kept)


@given(base=st.lists(items, max_size=5, unique_by=lambda i: i["name"]), removed=st.sets(names))
def test_absent_removes_exactly_what_it_names(base: list[Any], removed: set[str]) -> None:
    present = {item["name"] for item in base}
    overlay = {"services": [{"name": name, "state": "absent"} for name in sorted(removed)]}
    edge, problems = _merged({"services": base}, overlays=(overlay,))
    assert [item["name"] for item in edge["services"]] == sorted(present - removed)
    assert len(problems) == len(removed - present)


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({}, {"state": "present", "a": 1}, {"a": 1}),
    ],
)
def test_overlay_of_one_item(base: Any, over: Any, expected: Any) -> None:
    edge, problems = _merged(
        {"services": [{"name": "s", **base}]}, overlays=({"services": [{"name": "s", **over}]},)
    )
    assert (edge["services"], problems) == ([{"name": "s", **expected}], [])


def test_an_overlay_may_add() -> None:
    edge, problems = _merged(overlays=({"services": [{"name": "new"}], "ports": {"https": 1}},))
    assert (edge, problems) == ({"services": [{"name": "new"}], "ports": {"https": 1}}, [])
