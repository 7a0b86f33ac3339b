"""A change that is taken back by itself unless it is confirmed over another connection.

What may cut the very connection that makes it (MTU, channels, an XDP program, a queueing discipline) first
arms a timer of systemd that puts everything back; a second call, which has to reach the host anew, disarms
it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence

Run = Callable[[list[str]], tuple[int, str, str]]

# What such a module takes beside its own; plugins/doc_fragments/commit_confirm.py describes it.
OPTIONS = {
    "confirm_within": {"type": "int", "default": 0},
    "confirm": {"type": "bool", "default": False},
}


class ConfirmError(Exception):
    """The way back could not be armed or disarmed; nothing was changed."""


def unit_of(concern: str) -> str:
    """Name of the timer and of its service for one concern, such as `nic`."""
    return f"marchproxy-revert-{concern}"


def arm(concern: str, undo: Iterable[Sequence[str]], after_s: int, run: Run) -> None:
    """Arm the way back: `undo` is carried out, all of it, `after_s` seconds from now.

    While the way back of an earlier change is armed a further change is refused: of the two states to go back
    to only the first is known to be good.
    """
    if is_armed(concern, run):
        raise ConfirmError(
            f"an earlier change of {concern} waits to be confirmed or taken back ({unit_of(concern)}.timer): "
            "confirm it, or wait until it is taken back"
        )
    script = "; ".join(shlex.join(command) for command in undo)
    code, out, err = run(
        [
            "systemd-run", "--quiet", "--collect", f"--unit={unit_of(concern)}", f"--on-active={after_s}s",
            "--timer-property=AccuracySec=100ms", "/bin/sh", "-c", script,
        ]
    )  # fmt: skip
    if code:
        words = (err or out).strip() or "systemd-run failed"
        raise ConfirmError(f"the way back cannot be armed, so nothing was changed: {words}")


def is_armed(concern: str, run: Run) -> bool:
    """Whether a change of the concern waits to be confirmed."""
    code, _, _ = run(["systemctl", "is-active", "--quiet", f"{unit_of(concern)}.timer"])
    return code == 0


def confirm(concern: str, run: Run) -> bool:
    """Disarm; True if there was something to confirm. ConfirmError if it was taken back already."""
    if not is_armed(concern, run):
        return False
    code, out, err = run(["systemctl", "stop", f"{unit_of(concern)}.timer"])
    if code:
        raise ConfirmError(f"{unit_of(concern)}.timer cannot be stopped: {(err or out).strip()}")
    return True


def change(
    concern: str, do: Callable[[], None], *, undo: Sequence[Sequence[str]], within_s: int, run: Run
) -> None:
    """Carry a change out, with a way back armed first if `within_s` is not 0.

    A change that fails half-way is put back at once, as far as the kernel lets it, and its error goes on.
    `undo` only sets what was before, so that it does no harm for what was not changed yet.
    """
    if within_s:
        arm(concern, undo, within_s, run)
    try:
        do()
    except Exception:
        for command in undo:
            run(list(command))
        if within_s:
            confirm(concern, run)
        raise


def confirm_result(concern: str, run: Run, *, check: bool) -> dict[str, object]:
    """What a module returns that was called to confirm."""
    armed = is_armed(concern, run)
    if armed and not check:
        confirm(concern, run)
    return {"changed": armed, "actions": [], "unconfirmed": False}


def result(
    actions: Sequence[str], before: Sequence[str], after: Sequence[str], *, unconfirmed: bool
) -> dict[str, object]:
    """What a module returns of a change: the words, the diff, and whether it waits to be confirmed."""
    return {
        "changed": bool(actions),
        "actions": list(actions),
        "unconfirmed": unconfirmed,
        "diff": {
            "before": "".join(f"{one}\n" for one in before),
            "after": "".join(f"{one}\n" for one in after),
        },
    }


def unknown_yet(words: str) -> dict[str, object]:
    """What a module returns in check mode on a fresh host: a role before it would have installed its tool."""
    line = f"{words} is not installed yet; what would change is known once it is"
    return result([line], [], [line], unconfirmed=False)
