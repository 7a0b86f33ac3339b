"""The program this host was found well with, kept whole: what runs again when another one is taken back.

Its file may be gone by then, and maps of its layouts and sizes pinned nowhere: so both are kept beside it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from xds_agent.datapath import pins
from xds_agent.datapath.program import Generation, Sizes
from xds_agent.node.config import DatapathConfig
from xds_agent.node.datapath.attachment import CONFIRMED_MAPS, AttachError
from xds_agent.node.datapath.shaping import OBJECT as TC_OBJECT

_SIZES = "sizes.json"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """`program` lies beside that of tc, as in a release; its maps have these sizes."""

    program: Path
    sizes: Sizes

    @classmethod
    def of(cls, config: DatapathConfig) -> Confirmed:
        """What a host is to run, once it was found well with it."""
        sizes = Sizes(
            services=config.services, reals=config.reals, limit_blocks=config.limit_blocks, flows=config.flows
        )
        return cls(config.program, sizes)


def keep(generation: Generation, *, folder: Path, bpffs: Path) -> None:
    """Copy its objects to `folder` and pin its maps, in place of those of the one before.

    Raises OSError; then nothing is kept.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(bpffs / CONFIRMED_MAPS, ignore_errors=True)
    pins.pin(generation, bpffs / CONFIRMED_MAPS)
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for source in (generation.path, generation.path.with_name(TC_OBJECT)):
        if source.exists():
            shutil.copyfile(source, fresh / source.name)
    (fresh / _SIZES).write_text(json.dumps(asdict(generation.sizes)), encoding="ascii")
    fresh.replace(folder)


def forget(folder: Path) -> None:
    """Whatever `keep` has put there."""
    shutil.rmtree(folder, ignore_errors=True)


def kept(*, name: str, folder: Path, bpffs: Path) -> Confirmed:
    """`name`: of the program's file. Raises AttachError where there is none, or not all of it."""
    try:
        if not any((bpffs / CONFIRMED_MAPS).iterdir()):
            raise FileNotFoundError
        sizes = Sizes(**json.loads((folder / _SIZES).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise AttachError("of the program before, file and maps were not kept") from error
    return Confirmed(folder / name, sizes)
