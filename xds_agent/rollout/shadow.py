"""Shadows: Envoys on the control host that try every change before any proxy sees it.

One shadow holds what the proxies of one view and one minor version of Envoy hold, so that the transition
itself is tried: some errors exist only as one (a listener's `reuse_port`). Each Envoy stands in a network
namespace with nothing in it but loopback, to which every address is local: listeners bind for real whatever
their address, active checks and connects fail at once, nothing leaves. What a shadow cannot know is what
stands on the proxy: ports that others use, addresses that are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xds_agent.node.admin import Admin, AdminError
from xds_agent.node.config import EnvoyConfig, NodeConfig, Tls
from xds_agent.node.envoy_link import EnvoyLink, Refusal
from xds_agent.rollout import shadow_holds
from xds_agent.rollout.envoys import Envoys, Versions, identity, nobody_said
from xds_agent.snapshot.resource import EMPTY, Snapshot

log = logging.getLogger(__name__)

# Shadows at most, and the heap of each at which its Envoy gives memory back; about 65 MB with few services.
MOST = 4
HEAP_MB = 512
# A start and a whole configuration on a busy machine; an Envoy that takes longer tries nothing.
START_S = 30.0
_CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
# User namespace, so that no privilege is needed; dies with us. Every IPv4 address is local to who binds, for
# which the kernel reads the table `local` itself, and none but loopback can be reached, for which it follows
# the rules. Else a health check would meet the shadow's own listener on that port, which asks it again.
# Envoy begins all active checks of a new configuration at once, a socket for each endpoint: it gets as many
# files as control's unit allows (LimitNOFILE), and not the few that are usual.
_ALONE = (
    'ulimit -n "$(ulimit -H -n)" && '
    "ip link set lo up && ip route add local default dev lo && "
    "ip rule add pref 1 to 127.0.0.0/8 lookup local && ip rule del pref 0 && "
    'exec "$@"'
)


class ShadowError(Exception):
    """The shadow could not be tried; the words say why. Says nothing about the change."""


class ShadowCrashed(ShadowError):
    """Its Envoy crashed while it was led. Once is chance; a change on which two crash is not for proxies."""


@dataclass(frozen=True)
class Tried:
    """What the shadows said: `refusals` by the name of a proxy of the view, and what was not tried."""

    refusals: Mapping[str, Refusal]
    notes: tuple[str, ...] = ()


class Shadow:
    """One Envoy and the part of a node agent that leads it."""

    def __init__(self, envoy: Path, folder: Path, held: Snapshot) -> None:
        self.envoy = envoy
        self._folder = folder
        self._admin = folder / "admin.sock"
        # Nobody sends requests here that a removed cluster would have to wait for.
        self._link = EnvoyLink(
            held, xds_socket=folder / "xds.sock", admin=Admin(self._admin), linger_s=0.0
        )  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._held = held
        self._compared = EMPTY
        self.binary = identity(envoy)

    @property
    def holds(self) -> str:
        """Revision of what its Envoy has active."""
        return self._held.revision

    async def start(self) -> None:
        """Start it unless it stands already. Raises ShadowError."""
        if self._process is not None:
            return
        # What a killed control host left behind.
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        bootstrap = self._folder / "bootstrap.json"
        bootstrap.write_text(await asyncio.to_thread(_bootstrap, self._folder), encoding="utf-8")
        try:
            await self._link.start()
            with (self._folder / "envoy.log").open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    "unshare", "--user", "--map-root-user", "--net",
                    "setpriv", "--pdeathsig", "KILL", "sh", "-c", _ALONE, "sh",
                    str(self.envoy), "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart",
                    "--drain-time-s", "1", "-l", "warn",
                    stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
        except OSError as error:
            raise ShadowError(str(error)) from error

    async def apply(self, target: Snapshot) -> Refusal | None:
        """Take the shadow to `target`; None once its Envoy has it active, is LIVE, and shows it.

        Raises ShadowError.
        """
        assert self._process is not None
        trying = asyncio.create_task(self._link.apply(target))
        dying = asyncio.create_task(self._process.wait())
        try:
            async with asyncio.timeout(START_S):
                await asyncio.wait((trying, dying), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise ShadowError(f"its Envoy took longer than {START_S:g} s") from error
        finally:
            dying.cancel()
            if not trying.done():
                trying.cancel()
        if not trying.done() or trying.cancelled():
            raise self._death()
        return trying.result() or await self._compare(target)

    async def _compare(self, target: Snapshot) -> Refusal | None:
        """An acknowledgement is a word; what Envoy shows is what it has."""
        try:
            admin = Admin(self._admin, timeout_s=START_S)
            type_url, names, words = await shadow_holds.difference(admin, self._compared, target)
        except AdminError as error:
            raise ShadowError(f"its Envoy does not show what it holds: {error}") from error
        if words:
            return Refusal(type_url, names, words)
        self._held = self._compared = target
        return None

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._link.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _death(self) -> ShadowError:
        assert self._process is not None
        code = self._process.returncode or 0
        words = f"its Envoy ended: {self._last_words()}"
        return ShadowCrashed(words) if self._link.met and -code in _CRASHES else ShadowError(words)

    def _last_words(self) -> str:
        lines = (self._folder / "envoy.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "without a word"


class Shadows:
    """Every shadow of this control host; `try_out` one change at a time."""

    def __init__(
        self, envoy: Path, directory: Path, *, before: Path | None = None, versions: Versions = nobody_said
    ) -> None:
        """`before` is the Envoy before, which proxies may still run; `versions` says what each runs."""
        self._envoys = Envoys([envoy] if before is None else [envoy, before], versions)
        self._directory = directory
        self._numbers = itertools.count(1)
        self._resident: list[Shadow] = []

    async def try_out(self, old: Mapping[str, Snapshot], new: Mapping[str, Snapshot]) -> Tried:
        """Take a shadow of each view through the change; of too many views those of the most proxies."""
        await self._envoys.look()
        steps: Counter[tuple[str, str, Path]] = Counter()
        stands_for: dict[tuple[str, str, Path], str] = {}
        for name, snapshot in new.items():
            before = old.get(name, EMPTY)
            if before.revision != snapshot.revision:
                step = (before.revision, snapshot.revision, self._envoys.of(name))
                steps[step] += 1
                stands_for.setdefault(step, name)
        chosen = [stands_for[step] for step, _ in steps.most_common(MOST)]
        await self._dismiss({(old.get(name, EMPTY).revision, self._envoys.of(name)) for name in chosen})
        notes = [
            f"proxies that run Envoy {one} had their changes tried on another version"
            for one in sorted(self._envoys.untried(new))
        ]
        if len(steps) > MOST:
            notes.append(f"{len(steps) - MOST} of {len(steps)} views were not tried: {MOST} shadows at most")
        refusals = {}
        for name in chosen:
            try:
                refusal = await self._try(self._envoys.of(name), old.get(name, EMPTY), new[name])
            except ShadowError as error:
                notes.append(f"no shadow for the view of {name}: {error}")
                continue
            if refusal is not None:
                refusals[name] = refusal
        return Tried(refusals, tuple(notes))

    async def stop(self) -> None:
        await self._dismiss(set())

    async def _try(self, envoy: Path, before: Snapshot, after: Snapshot) -> Refusal | None:
        wanted = (envoy, before.revision)
        shadow = next((one for one in self._resident if (one.envoy, one.holds) == wanted), None)
        try:
            return await self._apply(shadow or self._new(envoy, before), after)
        except ShadowError as error:
            # It died, or could not start just then. The change would go on untried.
            log.warning("a shadow failed, a new one tries the change: %s", error)
            first = error
        try:
            return await self._apply(self._new(envoy, before), after)
        except ShadowCrashed as second:
            if not isinstance(first, ShadowCrashed):
                raise
            return Refusal("", (), f"two Envoys in a row crashed on it: {second}")

    def _new(self, envoy: Path, before: Snapshot) -> Shadow:
        shadow = Shadow(envoy, self._directory / str(next(self._numbers)), before)
        self._resident.append(shadow)
        return shadow

    async def _apply(self, shadow: Shadow, after: Snapshot) -> Refusal | None:
        try:
            await shadow.start()
            refusal = await shadow.apply(after)
        except ShadowError:
            await self._drop(shadow)
            raise
        if refusal is not None:
            # After a refusal of clusters Envoy may be wedged: the next change meets a new one.
            await self._drop(shadow)
        return refusal

    async def _dismiss(self, wanted: set[tuple[str, Path]]) -> None:
        """Stop those that hold what nobody holds any more, or whose Envoy has been exchanged on disk."""
        stale = [
            one
            for one in self._resident
            if (one.holds, one.envoy) not in wanted or one.binary != identity(one.envoy)
        ]
        for shadow in stale:
            await self._drop(shadow)

    async def _drop(self, shadow: Shadow | None) -> None:
        if shadow is not None:
            self._resident.remove(shadow)
            await shadow.stop()


def _bootstrap(folder: Path) -> str:
    # Imported here: only a control host with shadows needs it, and it is slow.
    from xds_agent.node.bootstrap import render

    nowhere = folder / "none"
    return render(
        NodeConfig(
            name="shadow", control=["localhost:1"], control_names=["none"],
            tls=Tls(certificate=nowhere, key=nowhere, ca=nowhere),
            envoy=EnvoyConfig(
                xds_socket=folder / "xds.sock", admin_socket=folder / "admin.sock", max_heap_mb=HEAP_MB
            ),
        )
    )  # fmt: skip
