"""The lab's site file for Pulumi: pulumi/sites/lab.yaml, with its networks moved to this checkout's range."""

from __future__ import annotations

import re
from pathlib import Path

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


def write(source: Path, target: Path, octet: int) -> None:
    """Write the moved site file where the engine reads it."""
    try:
        text = source.read_text()
    except OSError as problem:
        raise LabError(f"cannot read {source}: {problem.strerror}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(moved(text, octet))
