"""The lab's site file for Pulumi: pulumi/sites/lab.yaml, with its networks moved to this checkout's range."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from lab.errors import LabError

# A network of the site file as it is written, a region's or one that a rule names.
WRITTEN = re.compile(r"(?<![\d.])10\.(2\d\d)\.0\.0/22(?!\d)")
FIRST_WRITTEN, BLOCKS = 200, 48
# The first block is nobody's network: people who log in come from there.
OUTSIDE = 1
# Below are the networks of inventories/lab, which is made without Pulumi.
FIRST_THIRD, STEP = 64, 4
# Third octets of all networks.
RANGES = FIRST_THIRD + STEP * OUTSIDE, FIRST_THIRD + STEP * BLOCKS - 1


def moved(text: str, octet: int) -> str:
    """``text`` with every network 10.(200 + K).0.0/22 as the K-th block in 10.``octet``.64.0 and above.

    A network keeps its place whatever else is added to the file: nothing is made anew. Raises LabError
    for a network that is not of this form.
    """

    def there(found: re.Match[str]) -> str:
        block = int(found[1]) - FIRST_WRITTEN
        return f"10.{octet}.{FIRST_THIRD + STEP * block}.0/22" if block < BLOCKS else found[0]

    written = re.findall(r"^\s*network:\s*(\S+)", text, re.M)
    strange = [
        range_
        for range_ in written
        if not (found := WRITTEN.fullmatch(range_)) or not OUTSIDE <= int(found[1]) - FIRST_WRITTEN < BLOCKS
    ]
    if strange:
        raise LabError(
            f"network {strange[0]} of the lab's site file cannot be placed on this machine",
            f"the lab takes 10.{FIRST_WRITTEN + OUTSIDE}.0.0/22 to 10.{FIRST_WRITTEN + BLOCKS - 1}.0.0/22",
        )
    return WRITTEN.sub(there, text)


def with_login(text: str, key: str) -> str:
    """``text`` whose ``ssh.authorized_keys`` begin with ``key``; LabError where it has no such list.

    All else stays in its line, so that mistakes are told with that of the file which people edit.
    """
    try:
        name, keys = _authorized_keys(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        # The engine says what is wrong with it, and where.
        return text
    lines = text.splitlines(keepends=True)
    row, column = keys.start_mark.line, keys.start_mark.column
    if keys.flow_style:
        lines[row] = f"{lines[row][: column + 1]}{json.dumps(key)}, {lines[row][column + 1 :]}"
        return "".join(lines)
    first, last = name.start_mark.line, keys.value[-1].start_mark.line
    lines[first + 1 : last + 1] = ["\n"] * (last - first)
    lines[first] = f"{lines[first][: name.end_mark.column]}: [{json.dumps(key)},\n"
    for item in keys.value:
        lines[item.start_mark.line] = f"{' ' * (column + 2)}{json.dumps(item.value)},\n"
    lines[last] = f"{lines[last].rstrip()}]\n"
    return "".join(lines)


def _authorized_keys(document: yaml.Node | None) -> tuple[yaml.Node, yaml.SequenceNode]:
    """The key ``ssh.authorized_keys`` and its list. Raises LabError where the file has none."""
    ssh = _entry(document, "ssh")
    found = _entry(ssh[1], "authorized_keys") if ssh else None
    if found is None or not isinstance(found[1], yaml.SequenceNode) or not found[1].value:
        raise LabError(
            "the lab's site file has no list ssh.authorized_keys",
            "write it as pulumi/sites/example.yaml does: authorized_keys:, below it '- KEY' line by line",
        )
    return found[0], found[1]


def _entry(mapping: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    entries = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next(((key, value) for key, value in entries if key.value == name), None)


def write(source: Path, target: Path, octet: int, login: str) -> None:
    """Write the moved site file where the engine reads it; ``login`` is a public key that may log in too."""
    try:
        text = source.read_text()
    except OSError as problem:
        raise LabError(f"cannot read {source}: {problem.strerror}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(with_login(moved(text, octet), login))
