"""Which control host a fleet-wide task runs on, and the sentence when there is none."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Where:
    """Names of the control hosts; `chosen` does the work; `problem` says why nobody can."""

    control: list = field(default_factory=list)
    chosen: str = ""
    problem: str = ""


def who_runs(task_vars):
    """Looks at the inventory's groups and at the play's hosts, which --limit makes fewer."""
    control = list(task_vars.get("groups", {}).get("control", []))
    if not control:
        return Where(
            problem="the inventory has no host in group control; name at least one under `control: hosts:`"
        )
    in_play = task_vars.get("ansible_play_hosts_all") or control
    chosen = [name for name in control if name in in_play]
    limit = task_vars.get("ansible_limit")
    if limit and not _reached(control, task_vars):
        return Where(
            control=control,
            problem=f"--limit {limit} leaves out control ({', '.join(control)}), without which no change "
            f"of the edge can be published; run without --limit, or with --limit '{limit},control'",
        )
    return Where(control=control, chosen=(chosen or control)[0])


def _reached(control, task_vars):
    """Whether any control host survives --limit. A play of other hosts says nothing about that."""
    play = task_vars.get("ansible_play_hosts_all")
    hosts = set(play or ())
    if hosts & set(control):
        return True
    # With delegate_to the play is about other hosts; the limit itself decides then.
    patterns = [part.strip() for part in str(task_vars["ansible_limit"]).replace(":", ",").split(",")]
    return any(part in ("all", "*", "control") or part in control for part in patterns)
