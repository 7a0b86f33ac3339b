"""The lab's site file for Pulumi: pulumi/sites/lab.yaml, with its networks moved to this checkout's range."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from lab.errors import LabError

# A network of the site file as it is written: 10.201.0.0/22 is the first.
WRITTEN = re.compile(r"^(\s*network:\s*)(10\.(\d+)\.0\.0/22)(\s*(?:#.*)?)$", re.M)
FIRST_WRITTEN, BLOCKS = 200, 48
# Below are the networks of inventories/lab, which is made without Pulumi.
FIRST_THIRD, STEP = 64, 4


def moved(text: str, octet: int) -> str:
    """``text`` with every network 10.(200 + K).0.0/22 as the K-th block in 10.``octet``.64.0 and above.

    A network keeps its place whatever else is added to the file: nothing is made anew. Raises LabError
    for a network that is not of this form.
    """

    def there(found: re.Match[str]) -> str:
        block = int(found[3]) - FIRST_WRITTEN
        if not 0 <= block < BLOCKS:
            raise LabError(
                f"network {found[2]} of the lab's site file cannot be placed on this machine",
                f"the lab takes 10.{FIRST_WRITTEN}.0.0/22 to 10.{FIRST_WRITTEN + BLOCKS - 1}.0.0/22",
            )
        range_ = ipaddress.ip_network(f"10.{octet}.{FIRST_THIRD + STEP * block}.0/22")
        return f"{found[1]}{range_}{found[4]}"

    written = re.findall(r"^\s*network:\s*(\S+)", text, re.M)
    strange = [range_ for range_ in written if not re.fullmatch(r"10\.\d+\.0\.0/22", range_)]
    if strange:
        raise LabError(
            f"network {strange[0]} of the lab's site file cannot be placed on this machine",
            "in the lab, write networks as 10.201.0.0/22, 10.202.0.0/22 and so on",
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
