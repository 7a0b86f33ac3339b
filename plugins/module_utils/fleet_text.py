"""How control's answer about a revision reads for a person: diff, warnings, failure."""

from __future__ import annotations


def diff_text(answer):
    """The change, grouped by the proxies each line reaches; the closing sentence last."""
    groups = {}
    for line in answer.get("lines", []):
        groups.setdefault(", ".join(sorted(line.get("proxies", []))), []).append(line["text"])
    parts = []
    for proxies, texts in groups.items():
        parts.append(f"{proxies}:" if proxies else "the site:")
        parts.extend(f"  {text}" for text in texts)
    parts.append(answer.get("summary", ""))
    if answer.get("outcome") == "dry-run" and answer.get("plan"):
        parts.append(f"plan {answer['plan']}")
    return "\n".join(parts) + "\n"


def problems_text(problems):
    """Every problem on a line of its own, below their number."""
    texts = [problem.get("text") or problem.get("message", "") for problem in problems]
    head = "1 problem in the inventory:" if len(texts) == 1 else f"{len(texts)} problems in the inventory:"
    return "\n".join([head, *(f"  {text}" for text in texts)])


def bare(problems):
    """The problems without their rendered line, which the message shows already."""
    return [{key: value for key, value in problem.items() if key != "text"} for problem in problems]


def warnings_of(answer):
    """What a success still has to say: proxies that are away, parts not acted on yet."""
    away = _in_state(answer, "offline")
    warnings = []
    if away:
        are, keep = ("is", "keeps") if len(away) == 1 else ("are", "keep")
        warnings.append(
            f"{', '.join(away)} {are} not connected and {keep} the last good configuration; "
            "what is new comes on return"
        )
    warnings.extend(str(note) for note in answer.get("notes", []))
    return warnings


def failure(answer):
    """Why the task fails although control answered; None when all is well."""
    if answer.get("outcome") == "refused":
        back = answer.get("reverted_to")
        tail = f"revision {back} is live again" if back else "nothing is live, this was the first revision"
        texts = [problem.get("text", "") for problem in answer.get("problems", [])]
        return "\n".join([f"the revision was refused; {tail}", *(f"  {text}" for text in texts)])
    refused = _in_state(answer, "refused")
    if refused:
        words = "; ".join(f"{name}: {answer['nodes'][name].get('error', '')}" for name in refused)
        return f"{', '.join(refused)} refused the live revision: {words}"
    waiting = _in_state(answer, "pending")
    if waiting:
        advice = "`xds-agent status` on the control host shows how it goes on"
        return f"{', '.join(waiting)} did not acknowledge in time; the revision stays published, {advice}"
    return None


def _in_state(answer, state):
    """Proxies in this state; of the ones that the waves left out only who is away, the notes say the rest."""
    left_out = answer.get("left_out", {}) if state != "offline" else {}
    nodes = answer.get("nodes", {})
    return sorted(name for name, node in nodes.items() if node.get("state") == state and name not in left_out)
