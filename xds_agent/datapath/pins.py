"""Pins on bpffs: what lets the datapath outlive its agent.

`FOLDER/<layout>/<map>@<layout of it>` and `FOLDER/link`. The layouts are part of the path: a program takes
over maps of its own layouts and no others; a folder of another one is the generation to go back to, or to
remove.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath.info import object_id
from xds_agent.datapath.libbpf import check, library
from xds_agent.datapath.objects import Kept
from xds_agent.datapath.program import OWN, Generation

_AT = "@"


class NoBpffs(RuntimeError):
    """The folder is not on a BPF file system; the text says how to mount one."""


def pin(generation: Generation, folder: Path) -> None:
    """Pin every map; what is pinned there as another map of the same name gives way.

    Raises:
        NoBpffs: the folder is not on bpffs.
        OSError: with the map's name.
    """
    place = folder / generation.layout
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoBpffs(_remedy(folder)) from error
    for name, table in generation.maps.items():
        path = place / f"{name}{_AT}{generation.layouts[name]}"
        # One of another size may have taken its place: the pin follows the live one.
        if path.exists():
            if _pinned_id(path) == object_id(table.fd):
                continue
            path.unlink()
        try:
            check(library().bpf_obj_pin(table.fd, str(path).encode()), f"pinning map {name}")
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EINVAL):
                raise NoBpffs(_remedy(folder)) from error
            raise


def _pinned_id(path: Path) -> int:
    """Raises OSError."""
    fd = check(library().bpf_obj_get(str(path).encode()), f"opening {path}")
    try:
        return object_id(fd)
    finally:
        os.close(fd)


def keep_program(generation: Generation, path: Path) -> None:
    """Pin the program itself, in place of whatever is pinned there: what a rollback goes back to.

    Raises NoBpffs, OSError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {path: generation.program_fd}
        # The programs it goes on to live as long as somebody holds the map they are in.
        kept |= {_beside(path, name): generation.maps[name].fd for name in OWN}
        for place, fd in kept.items():
            place.unlink(missing_ok=True)
            check(library().bpf_obj_pin(fd, str(place).encode()), f"pinning {place}")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EINVAL):
            raise NoBpffs(_remedy(path.parent)) from error
        raise


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}_{name}")


@dataclass(frozen=True, slots=True)
class PinnedProgram:
    """A program that an earlier process loaded; `Link.update` takes it. Close it."""

    program_fd: int

    def close(self) -> None:
        os.close(self.program_fd)


def kept_program(path: Path) -> PinnedProgram | None:
    """What `keep_program` pinned, None if there is none. Raises OSError."""
    if not path.exists():
        return None
    return PinnedProgram(check(library().bpf_obj_get(str(path).encode()), f"opening {path}"))


def reopen(folder: Path) -> list[Kept]:
    """What is pinned there, one entry per layout; the caller closes those it does not use."""
    found = []
    for place in sorted(path for path in folder.glob("*") if path.is_dir()):
        fds, layouts = {}, {}
        for path in place.iterdir():
            name, _, layouts[name] = path.name.partition(_AT)
            fds[name] = check(library().bpf_obj_get(str(path).encode()), f"opening {path}")
        found.append(Kept(place.name, fds, layouts))
    return found


def remove(folder: Path) -> None:
    """Take away every pin below; what is attached or open lives on."""
    for place in (path for path in folder.glob("*") if path.is_dir()):
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def keep_only(folder: Path, layout: str) -> None:
    """Take away the pins of every other layout: their maps end with the last program that uses them."""
    for place in (path for path in folder.glob("*") if path.is_dir() and path.name != layout):
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def close(kept: Kept) -> None:
    """Close the descriptors of `reopen`; a program that was loaded with them has its own."""
    for fd in kept.fds.values():
        os.close(fd)


def _remedy(folder: Path) -> str:
    return f"{folder} is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf"
