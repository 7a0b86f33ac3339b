"""The modules `bpf_map` and `xdp_program`: cells, plans, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.marchproxy.edge.plugins.module_utils import bpftool
from ansible_collections.marchproxy.edge.plugins.module_utils.bpftool import BpfError
from hypothesis import given
from hypothesis import strategies as st

from modules import bpf_map
from tests.support.site_inventory import ROOT

MAP = bpf_map.Map(
    "/sys/fs/bpf/m", "hash", 4, 2,
    {("0x01", "0x00", "0x00", "0x00"): ("0x02", "0x00"), ("0x09", "0x00", "0x00", "0x00"): ("0x03", "0x00")},
)  # fmt: skip


@given(st.binary(min_size=1, max_size=16))
def test_bytes_are_taken_as_number_hexadecimal_or_list(given_bytes: bytes) -> None:
    cells = [f"0x{one:02x}" for one in given_bytes]
    size = len(given_bytes)
    assert bpftool.cell(list(given_bytes), size) == cells
    assert bpftool.cell("0x" + given_bytes.hex(), size) == cells
    assert bpftool.cell(int.from_bytes(given_bytes, "little"), size) == cells


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (65536, "65536 does not fit 2 bytes"),
        (-1, "-1 does not fit"),
        ("zz", "a whole number, 0x and hexadecimal digits, or a list of bytes"),
        ([1], "1 bytes were given, the map takes 2"),
        ([1, 256], "a list of bytes"),
        (True, "True is neither"),
    ],
)
def test_what_is_no_cell(value: Any, words: str) -> None:
    with pytest.raises(BpfError, match=words):
        bpftool.cell(value, 2)


def entry(key: Any, value: Any = None, state: str = "present") -> dict[str, Any]:
    return {"key": key, "value": value, "state": state}


def planned(*entries: dict[str, Any], purge: bool = False, found: bpf_map.Map = MAP) -> list[str]:
    return [
        " ".join(step.command()[2:])
        for step in bpf_map.plan(found, {"entries": list(entries), "purge": purge})
    ]


def test_only_what_differs_is_written() -> None:
    assert planned(entry(1, 2), entry(9, 3), purge=True) == []
    assert planned(entry(1, 7)) == ["update pinned /sys/fs/bpf/m key 0x01 0x00 0x00 0x00 value 0x07 0x00 any"]
    assert planned(entry(1, state="absent"), entry(5, state="absent")) == [
        "delete pinned /sys/fs/bpf/m key 0x01 0x00 0x00 0x00"
    ]


def test_purge_deletes_what_is_not_named() -> None:
    assert planned(entry(1, 2), purge=True) == ["delete pinned /sys/fs/bpf/m key 0x09 0x00 0x00 0x00"]


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(BpfError) as error:
        planned(entry(1), entry(2, 70000), entry(1, 2), entry("0x01000000", 2))
    said = str(error.value)
    assert "entries[0]: an entry that is present needs a value" in said
    assert "entries[1]: 70000 does not fit 2 bytes" in said
    assert "entries[3]: key 01000000 is named twice" in said


def test_entries_of_an_array_are_not_deleted() -> None:
    array = bpf_map.Map(MAP.path, "array", 4, 2, MAP.entries)
    with pytest.raises(BpfError, match="write zeros instead"):
        planned(entry(1, state="absent"), found=array)


def test_maps_of_the_agent_are_refused(tmp_path: Path) -> None:
    """Where the role has the agent pin them, by whatever name the path is given."""
    pins = yaml.safe_load((ROOT / "roles/xds_agent/vars/main.yml").read_text())["xds_agent_datapath_pins"]
    (tmp_path / "link").symlink_to(pins)

    def run(command: list[str]) -> tuple[int, str, str]:
        raise AssertionError(command)

    with pytest.raises(BpfError, match="the node agent writes this map from the inventory"):
        bpf_map.gather(run, f"{tmp_path}/link/acl4")
