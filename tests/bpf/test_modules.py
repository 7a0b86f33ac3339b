"""The modules `xdp_program` and `bpf_map` on a real interface: attached, exchanged, taken back, written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8);
    __type(key, __u32);
    __type(value, __u16);
} seen SEC(".maps");
SEC("xdp")
int NAME(struct xdp_md *ctx)
{
    __u32 key = VERDICT;
    return bpf_map_lookup_elem(&seen, &key) ? XDP_PASS : VERDICT;
}
char _license[] SEC("license") = "GPL";
"""


NODE = {
    "name": "edge1", "control": ["192.0.2.1:18000"], "control_names": ["control1"],
    "tls": {name: f"/nowhere/{name}" for name in ("certificate", "key", "ca")},
    "datapath": {"interfaces": ["edge0"], "program": str(ROOT / "bpf/build/xdp_main.bpf.o")},
}  # fmt: skip


class Call:
    """call(module, **arguments) runs a module in a namespace of its own with an interface edge0."""

    def __init__(self, name: str, folder: Path, pins: Path) -> None:
        self.name, self.folder, self.pins = name, folder, pins
        # As a host has it, with the objects of this tree.
        config = folder / "node.yml"
        config.write_text(json.dumps(NODE))
        agent = folder / "bin" / "xds-agent"
        agent.parent.mkdir()
        there = f"cd {ROOT} && exec {ROOT}/.venv/bin/python -m xds_agent"
        agent.write_text(f'#!/bin/sh\n{there} "$@" --config {config}\n')
        agent.chmod(0o755)

    def run(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        # Not `ip netns exec`, which would hide the file system of BPF behind a fresh /sys.
        inside = ["nsenter", f"--net=/run/netns/{self.name}", *map(str, words)]
        return subprocess.run(inside, capture_output=True, text=True, timeout=60, **more)

    def __call__(self, module: str, **arguments: Any) -> dict[str, Any]:
        if module == "xdp_program":
            arguments = {"interface": "edge0", "pins": str(self.pins), **arguments}
        done = self.run(
            ROOT / ".venv/bin/python", ROOT / f"modules/{module}.py",
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": str(self.folder), **arguments}}),
            env={
                **os.environ, "PYTHONPATH": str(ROOT / ".collections"),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            },
        )  # fmt: skip
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


pytestmark = pytest.mark.skipif(
    not shutil.which("bpftool"), reason="bpftool is not installed: script/test installs it"
)


@pytest.fixture
def call(tmp_path: Path, program: Path, bpffs: Path) -> Iterator[Call]:
    name = f"mp-xdp-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    made = Call(name, tmp_path, bpffs / name)
    try:
        subprocess.run(
            ["ip", "-n", name, *["link", "add", "edge0", "type", "veth", "peer", "name", "peer0"]], check=True
        )
        subprocess.run(["ip", "-n", name, "link", "set", "edge0", "up"], check=True)
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def compiled(folder: Path, name: str, verdict: str) -> str:
    source, made = folder / f"{name}.bpf.c", folder / f"{name}.bpf.o"
    source.write_text(SOURCE.replace("NAME", name).replace("VERDICT", verdict))
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    clang = ["clang", "-O2", "-g", "-target", "bpf", "-I", include, "-c", str(source), "-o", str(made)]
    subprocess.run(clang, check=True)
    return str(made)


def test_a_program_is_attached_exchanged_and_taken_off(call: Call, tmp_path: Path) -> None:
    first, second = compiled(tmp_path, "first", "XDP_PASS"), compiled(tmp_path, "second", "XDP_DROP")
    dry = call("xdp_program", object=first, _ansible_check_mode=True)
    assert dry["changed"] and dry["actions"][0].startswith("edge0 xdp: none -> first (tag ")
    made = call("xdp_program", object=first)
    assert made["actions"] == dry["actions"]
    assert not call("xdp_program", object=first)["changed"]
    swapped = call("xdp_program", object=second)
    assert "first (tag" in swapped["actions"][0] and "-> second (tag" in swapped["actions"][0]
    assert call("xdp_program", object=second, mode="skb")["changed"]
    assert not call("xdp_program", object=second, mode="skb")["changed"]
    assert call("xdp_program", state="absent")["actions"][0].endswith("-> none")
    assert not call("xdp_program", state="absent")["changed"]


def test_an_interface_without_a_program_is_tried_first(call: Call, tmp_path: Path, program: Path) -> None:
    """Its gateway answers; the far end of the pair takes nothing that XDP sends before it runs a program."""
    far = f"{call.name}-far"
    subprocess.run(["ip", "netns", "add", far], check=True)
    try:
        for words in (
            ["-n", call.name, "link", "set", "peer0", "netns", far],
            ["-n", far, "link", "set", "peer0", "up"],
            ["-n", far, "address", "add", "192.0.2.1/24", "dev", "peer0"],
            ["-n", call.name, "address", "add", "192.0.2.2/24", "dev", "edge0"],
            ["-n", call.name, "route", "add", "default", "via", "192.0.2.1"],
        ):  # fmt: skip
            subprocess.run(["ip", *words], check=True)
        wanted = compiled(tmp_path, "wanted", "XDP_PASS")
        dry = call("xdp_program", object=wanted, _ansible_check_mode=True)
        assert dry["changed"] and "edge0 would be tried first" in dry["diff"]["after"]
        refused = call("xdp_program", object=wanted)
        assert refused.get("failed") and "edge0 (driver veth, MTU 1500) loses what native" in refused["msg"]
        assert call("xdp_program", state="absent")["actions"] == [], "something stayed on it"
        assert not list(call.pins.rglob("generation-*")), "what was refused stayed loaded"
        passing = str(program.with_name("xdp_pass.bpf.o"))
        subprocess.run(
            ["ip", "-n", far, "link", "set", "dev", "peer0", "xdp", "obj", passing, "sec", "xdp"], check=True
        )
        made = call("xdp_program", object=wanted)
        assert made["changed"] and made["preflight"].startswith("192.0.2.1 answered")
        again = call("xdp_program", object=wanted)
        assert not again["changed"] and again["preflight"] == ""
    finally:
        subprocess.run(["ip", "netns", "del", far], check=True)


def test_somebody_elses_program_is_refused_by_its_name(call: Call, tmp_path: Path) -> None:
    first, second = compiled(tmp_path, "theirs", "XDP_PASS"), compiled(tmp_path, "ours", "XDP_DROP")
    assert call("xdp_program", object=first, pins=str(call.pins.with_name("theirs")))["changed"]
    refused = call("xdp_program", object=second)
    assert "edge0 has another's program: theirs (tag" in refused["msg"]
    refused = call("xdp_program", state="absent")
    assert "another's program" in refused["msg"]
    assert call("xdp_program", object=second, replace=True)["changed"]


@pytest.mark.parametrize(("how", "mode"), [({}, "native"), ({}, "skb"), ({"state": "absent"}, "native")])
def test_the_way_back_brings_somebody_elses_program_again(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, str], mode: str
) -> None:
    """Though whoever had attached it pinned it nowhere: the kernel lets an unpinned one go once it is off.

    No systemd runs here: what the timer would run is written down, and run.
    """
    later = tmp_path / "later"
    timer = tmp_path / "systemd-run"
    timer.write_text(f'#!/bin/sh\nfor last; do :; done\nprintf %s "$last" > {later}\n')
    timer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first, second = compiled(tmp_path, "theirs", "XDP_PASS"), compiled(tmp_path, "ours", "XDP_DROP")
    elsewhere = call.pins.with_name("theirs")
    there = call("xdp_program", object=first, pins=str(elsewhere))["actions"][0].partition("-> ")[2]
    shutil.rmtree(elsewhere)
    changed = call("xdp_program", object=second, mode=mode, replace=True, confirm_within=30, **how)
    assert changed["changed"] and changed["unconfirmed"], changed
    call.run("sh", "-c", later.read_text())
    again = call("xdp_program", object=second, _ansible_check_mode=True)
    assert f"edge0 has another's program: {there}" in again["msg"]


def test_what_cannot_be_loaded_says_why_and_leaves_what_was(call: Call, tmp_path: Path) -> None:
    good = compiled(tmp_path, "good", "XDP_PASS")
    assert call("xdp_program", object=good)["changed"]
    bad = tmp_path / "bad.bpf.o"
    bad.write_bytes(b"no object")
    assert "bad.bpf.o is not loaded" in call("xdp_program", object=str(bad))["msg"]
    assert "no such object on this host" in call("xdp_program", object="/nowhere.o")["msg"]
    assert "no interface nope" in call("xdp_program", object=good, interface="nope")["msg"]
    assert "has no program other; it has good" in call("xdp_program", object=good, program="other")["msg"]
    assert not call("xdp_program", object=good)["changed"]


def test_entries_of_a_map_are_written_and_purged(call: Call, tmp_path: Path) -> None:
    call("xdp_program", object=compiled(tmp_path, "counted", "XDP_PASS"))
    (path,) = call.pins.glob("edge0/generation-*/maps/seen")
    entries = [{"key": 1, "value": 258}, {"key": "0x02000000", "value": [3, 0]}]
    made = call("bpf_map", maps=[{"path": str(path), "entries": entries}])
    assert made["actions"] == [f"{path} 01000000: none -> 0201", f"{path} 02000000: none -> 0300"]
    assert not call("bpf_map", maps=[{"path": str(path), "entries": entries, "purge": True}])["changed"]
    gone = call("bpf_map", maps=[{"path": str(path), "entries": entries[:1], "purge": True}])
    assert gone["actions"] == [f"{path} 02000000: 0300 -> none"]
