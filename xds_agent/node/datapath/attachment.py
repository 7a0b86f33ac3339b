"""Programs on interfaces: load, pin, attach, take over what a predecessor of this process left running."""

from __future__ import annotations

import contextlib
import ctypes as c
import errno
import logging
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xds_agent.datapath import pins
from xds_agent.datapath.libbpf import Unavailable, library
from xds_agent.datapath.link import Link
from xds_agent.datapath.maps import Map
from xds_agent.datapath.objects import Kept
from xds_agent.datapath.program import BY_NUMBER, Features, Generation, Sizes, layouts_of, load
from xds_agent.node.datapath.network import Interface, NetworkError

log = logging.getLogger(__name__)

_BPF_FS_MAGIC = 0xCAFE4A11
MAPS, LINKS = "maps", "links"
# Those of the program that was confirmed last, whatever runs now.
CONFIRMED_MAPS = "confirmed_maps"
_NUMBERS = frozenset({"services4", "services6", "reals"})
_FLOWS = frozenset({"flows", "flows_new"})
# A folder that is there while `detach` holds: also where no program was on, which leaves no other trace.
_BY_HAND = "by_hand"


class AttachError(Exception):
    """The datapath cannot run here; the words say why and what to do."""


@dataclass(frozen=True)
class Loaded:
    """A program that is loaded and attached to nothing yet."""

    generation: Generation
    taken_over: bool
    """True where tables of a program that was running before are in use, or their rows."""


def load_beside(
    program: Path, *, folder: Path, sizes: Sizes, balance_seed: int, host_seed: int, numbered: bool = False,
    maps: str = MAPS,
) -> Loaded:  # fmt: skip
    """Load `program` with the maps that are pinned in `folder` below `maps`. `numbered`: the caller knows
    the numbers of services and reals and will write them again, where their tables have another layout now.

    Raises AttachError.
    """
    _check_bpffs(folder)
    kept = _kept(folder / maps)
    try:
        generation, predecessor = _loaded(program, sizes, (host_seed, balance_seed), kept, numbered=numbered)
        if predecessor is not None:
            _carry(generation, predecessor)
            if numbered or not _renumbered(predecessor, generation.layouts):
                _carry_flows(generation, predecessor)
    except OSError as error:
        generation.close()
        raise AttachError(f"the rows of the running program cannot be taken over: {error}") from error
    finally:
        for one in kept:
            pins.close(one)
    return Loaded(generation, predecessor is not None)


def host_seed(runtime: Path) -> int:
    """This host's secret, by which it finds flows in its maps: it lives exactly as long as they do.

    Raises AttachError.
    """
    path = runtime / "datapath.seed"
    try:
        return int(_secret(path, lambda: str(secrets.randbits(32))))
    except ValueError as error:
        raise AttachError(f"{path}: {error}") from error


def balance_seed(file: Path | None, runtime: Path) -> int:
    """By which flows find their reals: the site's secret, else this host's own. Raises AttachError."""
    if file is None:
        return host_seed(runtime)
    try:
        seed = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        # Its content is nobody's to read in a log.
        why = error.strerror if isinstance(error, OSError) else "it holds no number"
        raise AttachError(f"{file}: {why}; role xds_agent writes it (site.yml --tags xds_agent)") from None
    if not 0 <= seed < 1 << 32:
        raise AttachError(f"{file}: its number is not below 2^32")
    return seed


def cookie_key(runtime: Path) -> bytes:
    """This host's secret for SYN cookies: those on their way outlive a restart. Raises AttachError."""
    return bytes.fromhex(_secret(runtime / "datapath.cookies", lambda: secrets.token_hex(16)))


def _secret(path: Path, make: Callable[[], str]) -> str:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(make(), encoding="ascii")
            _give(fresh, to_owner_of=path.parent)
            fresh.replace(path)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise AttachError(f"{path}: {error}") from error


@dataclass(frozen=True)
class OnCards:
    """Links by interface, and by interface in words why there is none."""

    links: Mapping[str, Link]
    refused: Mapping[str, str]


def attach(
    generation: Generation, interfaces: Sequence[Interface], *, folder: Path, native: bool,
    keep: Iterable[str] = (), preflight: Callable[[Interface], Link | None] = lambda _: None,
) -> OnCards:  # fmt: skip
    """From here on `generation` runs on every interface that takes it, pinned with the maps. `keep`: others
    that keep what they have. `preflight`: asked before a card gets its first program; it may have put one
    there, whose place is taken then.

    Cards without a program come first: one that takes none costs the others nothing. Raises AttachError
    where one that runs before cannot be exchanged; it goes on.
    """
    links: dict[str, Link] = {}
    refused: dict[str, str] = {}
    running: dict[str, Link] = {}
    try:
        # First: where only some interfaces take it, the next attempt has the flows of those that did.
        pins.pin(generation, folder / MAPS)
        for interface in interfaces:
            pin = folder / LINKS / interface.name
            if (link := _pinned(pin, interface)) is not None:
                running[interface.name] = link
                continue
            try:
                links[interface.name] = _first(generation, interface, pin, native=native, preflight=preflight)
            except (AttachError, NetworkError) as error:
                refused[interface.name] = str(error)
        for name, link in running.items():
            link.update(generation)
            links[name] = link
    except (OSError, pins.NoBpffs) as error:
        for link in {*links.values(), *running.values()}:
            link.close()
        raise AttachError(str(error)) from error
    finally:
        for pinned in folder.rglob("*"):
            _give(pinned, to_owner_of=folder)
    _forget_others(folder / LINKS, {interface.name for interface in interfaces} | set(keep))
    # Rows of another layout are of a program that runs nowhere now: coming back to it would find them stale.
    with contextlib.suppress(OSError):
        pins.keep_only(folder / MAPS, generation.layout)
    return OnCards(links, refused)


def detach(folder: Path) -> list[str]:
    """Take the programs off, which holds until `end_detach`; names of the interfaces. Maps stay pinned, so
    that `attach` finds all as it was.

    Raises AttachError.
    """
    names = []
    try:
        if folder.is_dir():
            # First: what is off without it was lost, and a running agent puts it on again at once.
            (folder / _BY_HAND).mkdir(exist_ok=True)
        for pin in sorted((folder / LINKS).glob("*")):
            names.append(pin.name)
            Link.take_off(pin)
    except OSError as error:
        raise AttachError(f"{names[-1] if names else folder}: {error}") from error
    return names


def is_detached(folder: Path) -> bool:
    """Whether `detach` holds: nothing may be put on."""
    return (folder / _BY_HAND).exists()


def end_detach(folder: Path) -> None:
    """Programs may be put on again. Where it cannot be ended, `is_detached` says so."""
    with contextlib.suppress(OSError):
        (folder / _BY_HAND).rmdir()


def _check_bpffs(folder: Path) -> None:
    place = next(one for one in (folder, *folder.parents) if one.exists())
    if _file_system(place) != _BPF_FS_MAGIC:
        raise AttachError(
            f"{folder} is not on a BPF file system: mount -t bpf bpf {folder.parent} (role xdp does)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LINKS).mkdir(exist_ok=True)
    except OSError as error:
        raise AttachError(
            f"{folder} cannot be written ({error.strerror}); role xdp makes it the agent's"
        ) from error


def _file_system(place: Path) -> int:
    """f_type of statfs(2): the first word, of the machine's size."""
    buffer = c.create_string_buffer(256)
    if c.CDLL(None).statfs(str(place).encode(), buffer) != 0:
        return 0
    return int(struct.unpack_from("@l", buffer.raw)[0]) & 0xFFFFFFFF


def _kept(folder: Path) -> list[Kept]:
    try:
        return pins.reopen(folder)
    except OSError as error:
        raise AttachError(f"the pinned maps cannot be opened: {error}") from error


def _give(path: Path, *, to_owner_of: Path) -> None:
    """What root has made by hand (`datapath attach`) is the agent's all the same."""
    if os.geteuid() == 0:
        owner = to_owner_of.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _loaded(
    program: Path, sizes: Sizes, seeds: tuple[int, int], kept: Sequence[Kept], *, numbered: bool
) -> tuple[Generation, Kept | None]:
    """The program, and whose maps it shares. Raises AttachError."""
    host_seed, balance_seed = seeds
    features = Features(limit_seed=host_seed, balance_seed=balance_seed)
    problem: Exception
    try:
        layouts = layouts_of(program)
        # The one that is wholly this program's; else the last one gives the maps that are equal.
        whole = [one for one in kept if one.layouts == layouts]
        predecessor = next(iter([*whole, *reversed(kept)]), None)
        anew: tuple[str, ...] = ()
        if predecessor is not None and not numbered and _renumbered(predecessor, layouts):
            anew = BY_NUMBER
        return load(program, sizes=sizes, features=features, predecessor=predecessor, anew=anew), predecessor
    except (Unavailable, ValueError, OSError) as error:
        problem = error
    words = str(problem)
    if isinstance(problem, Unavailable) and "libbpf" in words:
        words += " (Debian: libbpf1; role xdp installs it)"
    raise AttachError(f"the datapath's program cannot be loaded: {words}") from problem


def _renumbered(predecessor: Kept, layouts: Mapping[str, str]) -> bool:
    return any(predecessor.layouts.get(name) != layouts[name] for name in _NUMBERS)


def _carry(generation: Generation, predecessor: Kept) -> None:
    """Maps of another size start empty, and flows go on by the numbers that stood in them: rows move over.

    Rings move by their files. Raises OSError.
    """
    services, reals = generation.sizes.services, generation.sizes.reals
    for name in _NUMBERS & set(generation.fresh) & predecessor.fds.keys():
        if predecessor.layouts[name] != generation.layouts[name]:
            continue
        table = generation.maps[name]
        before = Map(name, predecessor.fds[name], key=table.key, value=table.value)
        for key, value in before.entries():
            row = table.value.unpack(value)
            fits = (
                table.key.unpack(key) < reals if name == "reals" else max(row["id"], row["ring"]) < services
            )
            # Where they are fewer now than are in use, what is wanted next is refused in words.
            with contextlib.suppress(OSError):
                if fits:
                    table.put_raw(key, value)


def _carry_flows(generation: Generation, predecessor: Kept) -> None:
    """Whom a moved slot sends where, into tables of another size. Their numbers must go on to mean the same.

    Raises OSError.
    """
    for name in _FLOWS & set(generation.fresh) & predecessor.fds.keys():
        if predecessor.layouts[name] == generation.layouts[name]:
            table = generation.maps[name]
            rows = list(Map(name, predecessor.fds[name], key=table.key, value=table.value).entries())
            table.put_many([key for key, _ in rows], [value for _, value in rows])


def _pinned(pin: Path, interface: Interface) -> Link | None:
    """The link that is on the interface. Raises OSError."""
    link = Link.open(pin)
    if link is None or link.interface() == interface.index:
        return link
    # The interface it was attached to is gone (a container's NIC is made anew).
    log.info("%s: the pinned link is dead", interface.name)
    link.close()
    pin.unlink()
    return None


def _first(
    generation: Generation, interface: Interface, pin: Path, *, native: bool,
    preflight: Callable[[Interface], Link | None],
) -> Link:  # fmt: skip
    """On a card without a program of ours. Raises AttachError, NetworkError; OSError where it cannot be
    pinned."""
    link = preflight(interface)
    try:
        link = on_card(generation, interface, link, native=native)
        link.pin(pin)
    except BaseException:
        if link is not None:
            link.close()
        raise
    return link


def on_card(generation: Generation, interface: Interface, trial: Link | None, *, native: bool) -> Link:
    """On a card without a program of ours, in the place of a trial's if there is one; it goes when the link
    is closed. Raises AttachError, `trial` is the caller's then."""
    try:
        if trial is None:
            return Link.attach(generation, interface.index, native=native)
        trial.update(generation)
    except OSError as error:
        raise AttachError(why_not(interface, error, native=native)) from error
    return trial


def why_not(interface: Interface, error: OSError, *, native: bool) -> str:
    """Why no program comes on it, with the remedy."""
    name = interface.name
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return (
            f"{name} carries another XDP program already ({_program_words(interface.xdp)}): take it off "
            f"(ip link set dev {name} xdp off), or take {name} out of xdp_interfaces"
        )
    if native and error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE):
        return (
            f"{name} (driver {interface.driver or 'unknown'}, MTU {interface.mtu}) takes no native XDP: "
            "lower the MTU or the number of channels if the driver says so, or ask for the slower mode: "
            "xdp_mode: skb"
        )
    return f"{name}: {error}"


def _program_words(number: int) -> str:
    if not number:
        return "unknown"
    lib = library()
    with contextlib.suppress(AttributeError, OSError):
        fd = lib.bpf_prog_get_fd_by_id(number)
        if fd >= 0:
            try:
                return f"{_name(fd)}, number {number}"
            finally:
                os.close(fd)
    return f"number {number}; bpftool prog show id {number} names it"


def _name(fd: int) -> str:
    # struct bpf_prog_info: name of 16 bytes at 64.
    buffer, length = c.create_string_buffer(256), c.c_uint(256)
    if library().bpf_obj_get_info_by_fd(fd, buffer, c.byref(length)) != 0:
        return "unnamed"
    return buffer.raw[64:80].rstrip(b"\0").decode(errors="replace") or "unnamed"


def _forget_others(folder: Path, names: set[str]) -> None:
    """Interfaces that are no longer asked for: their link goes, and with it the program."""
    for pin in folder.glob("*"):
        if pin.name not in names:
            log.info("%s is no longer in xdp_interfaces: detached", pin.name)
            Link.take_off(pin)
