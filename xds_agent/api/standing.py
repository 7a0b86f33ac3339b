"""Where one proxy stands, in a few words: in a change, between changes, or on its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from xds_agent.model import Host, Maintenance
from xds_agent.rollout.publisher import NodeView
from xds_agent.rollout.release import Progress

_BETWEEN = {
    "active": "serving",
    "pending": "taking it",
    "refused": "went back to its last good set",
    "offline": "on its own",
}


def phase(
    name: str, view: NodeView, progress: Progress | None, envoy: str, left_out: Mapping[str, str]
) -> str:
    """`envoy` is Envoy's state as last heard; `left_out` says whom the last change did not wait for."""
    words = _in_change(name, progress) if progress is not None else ""
    if not words and view.state != "active" and name in left_out:
        words = f"left out: {left_out[name]}"
    words = words or _BETWEEN[view.state]
    if view.state != "offline" and envoy not in ("", "LIVE"):
        words = f"{envoy.lower()}, {words}"
    return words


def _in_change(name: str, progress: Progress) -> str:
    waves = progress.plan.waves
    for number, wave in enumerate(waves, 1):
        if name not in wave:
            continue
        of = f"wave {number} of {len(waves)}"
        if number > progress.wave:
            return f"waits for {of}"
        return f"{of}: {progress.phase}" if number == progress.wave else f"{of}: has it"
    why = progress.plan.left_out.get(name)
    return f"left out: {why}" if why is not None else ""


def maintenance(host: Host | None, windows: Iterable[Maintenance]) -> str:
    """The open window this host's own place is in; empty when there is none."""
    if host is None:
        return ""
    found = (window for window in windows if _names(window, host))
    return next((f"until {one.until:%Y-%m-%d %H:%M} UTC ({one.reason})" for one in found), "")


def _names(window: Maintenance, host: Host) -> bool:
    wanted = (
        (window.cloud, host.cloud), (window.region, host.region), (window.zone, host.zone),
        (window.host, host.name),
    )  # fmt: skip
    named = [(name, is_) for name, is_ in wanted if name is not None]
    return bool(named) and all(name == is_ for name, is_ in named)


def pending_words(nodes: Mapping[str, NodeView], phases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Of every proxy that does not serve what it should: its name, and what a reader must know of it."""
    for name, view in nodes.items():
        if view.state != "active":
            serves = f"serves revision {view.revision}" if view.revision else "serves nothing yet"
            yield name, f"{view.state} ({phases[name]}): it {serves}, which may say otherwise"
