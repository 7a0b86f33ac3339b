"""BPF programs and maps of a host, through `bpftool`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[list[str]], tuple[int, str, str]]
BPFFS = "/sys/fs/bpf"
# How `bpftool net` calls the ways an XDP program is attached.
MODES = {"native": "xdpdrv", "skb": "xdpgeneric"}
# Lines of the kernel's verifier that a person needs to see.
_LAST_LINES = 12


class BpfError(Exception):
    """The kernel or bpftool refused; the words name what and the remedy."""


def ask(run: Run, *words: str) -> Any:
    """bpftool's answer as data; None where it says nothing. BpfError with its words."""
    code, out, err = run(["bpftool", "-j", *words])
    said = json.loads(out) if out.strip().startswith(("{", "[")) else None
    if code or (isinstance(said, dict) and "error" in said):
        told = said.get("error") if isinstance(said, dict) else ""
        raise BpfError(f"bpftool {' '.join(words[:2])}: {told or last_lines(err) or last_lines(out)}")
    return said


def last_lines(text: str) -> str:
    """The end of what was said, which is where the verifier gives its reason."""
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])


def attached(run: Run, interface: str) -> dict[str, Any]:
    """What an interface runs by XDP (id, tag, name, mode), empty for nothing; BpfError without interface."""
    code, out, err = run(["ip", "-json", "-details", "link", "show", "dev", interface])
    if code:
        raise BpfError(f"no interface {interface} on this host: {err.strip()}")
    xdp = json.loads(out)[0].get("xdp") or {}
    if not xdp.get("prog"):
        return {}
    mode = {1: "native", 2: "skb"}.get(xdp.get("mode", 0), "other")
    shown = ask(run, "prog", "show", "id", str(xdp["prog"]["id"]))
    return {"id": shown["id"], "tag": shown["tag"], "name": shown.get("name", ""), "mode": mode}


def cell(value: Any, size: int) -> list[str]:
    """A key or value as bpftool takes it: whole numbers in the host's order; 0x... and lists byte by byte."""
    if isinstance(value, bool):
        raise BpfError(f"{value!r} is neither a whole number nor a list of bytes")
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        number = int(value)
        if not 0 <= number < 1 << (8 * size):
            raise BpfError(f"{number} does not fit {size} bytes")
        return [f"0x{byte:02x}" for byte in number.to_bytes(size, "little")]
    if isinstance(value, str):
        value = list(bytes.fromhex(value[2:])) if re.fullmatch("0x([0-9a-fA-F]{2})+", value) else None
    if not isinstance(value, Sequence) or not all(isinstance(one, int) and 0 <= one < 256 for one in value):
        raise BpfError("a key or value is a whole number, 0x and hexadecimal digits, or a list of bytes")
    if len(value) != size:
        raise BpfError(f"{len(value)} bytes were given, the map takes {size}")
    return [f"0x{byte:02x}" for byte in value]
