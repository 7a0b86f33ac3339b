"""What of tc on this host is ours, on disk for as long as the host is up: a successor takes it away too."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xds_agent.datapath.htb import NOTHING, Made
from xds_agent.datapath.tc import Direction

log = logging.getLogger(__name__)

FILE = "shaping.json"


@dataclass(frozen=True, slots=True)
class Shaped:
    """Of one interface. `index`: a card that went and came back has another one, and nothing of ours."""

    index: int
    directions: frozenset[Direction] = frozenset()
    made: Made = NOTHING


class Record:
    """By interface. Every change is on disk before it is made on the host."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Shaped]:
        """What cannot be read was nothing. Raises OSError."""
        try:
            return {name: _shaped(said) for name, said in json.loads(self._path.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s: %s; what tc has of an earlier run stays", self._path, error)
            return {}

    def of(self, name: str, index: int) -> Shaped:
        """Raises OSError."""
        known = self.read().get(name)
        return known if known is not None and known.index == index else Shaped(index)

    def keep(self, name: str, shaped: Shaped) -> None:
        """Raises OSError."""
        known = self.read()
        if known.get(name) == shaped:
            return
        known[name] = shaped
        self._write({name: one for name, one in known.items() if one != Shaped(one.index)})

    def keep_made(self, name: str, index: int, made: Made) -> None:
        """Raises OSError."""
        self.keep(name, replace(self.of(name, index), made=made))

    def put_on(self, name: str, index: int, direction: Direction) -> None:
        """Raises OSError."""
        known = self.of(name, index)
        self.keep(name, replace(known, directions=known.directions | {direction}))

    def taken_off(self, name: str, index: int, direction: Direction) -> None:
        """Of a card that has gone since, nothing is known any more. Raises OSError."""
        known = self.read().get(name)
        if known is not None and known.index == index:
            self.keep(name, replace(known, directions=known.directions - {direction}))

    def forget(self, name: str) -> None:
        """Raises OSError."""
        self._write({one: shaped for one, shaped in self.read().items() if one != name})

    def _write(self, shaped: Mapping[str, Shaped]) -> None:
        said = {
            name: {
                "index": one.index, "directions": sorted(one.directions), "tree": one.made.tree,
                "classes": sorted(one.made.classes),
            }
            for name, one in shaped.items()
        }  # fmt: skip
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(said, indent=1), encoding="ascii")
        fresh.replace(self._path)


def _shaped(said: Any) -> Shaped:
    made = Made(bool(said["tree"]), frozenset(map(int, said["classes"])))
    return Shaped(int(said["index"]), frozenset(said["directions"]), made)
