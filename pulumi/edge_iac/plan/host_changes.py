"""What an edit does to a host that stays: changed in place, stopped for it, replaced, or left as it is."""

from __future__ import annotations

from collections.abc import Iterator

from edge_iac.plan.model import Host, Region

REPLACED = "it is replaced"
STOPPED = "it is stopped and started"
LATER = "once it is named under renew"
_TAKES = "takes image, logins, host key, type and disk as they are now; where it has others"


def of_host(old: Host, new: Host, before: Region, after: Region) -> str:
    """What becomes of a host of ``before`` that ``after`` has too; empty where nothing does."""
    groups = [
        (REPLACED, [*_moves(old, new), *_renewed(before, after, old, new)]),
        (STOPPED, list(_stops(after, old, new))),
        (LATER, list(_waits(old, new))),
        ("", list(_changes(after, old, new))),
    ]
    return "; ".join(
        f"{', '.join(words)}{': ' if end in (REPLACED, STOPPED) else ', ' if end else ''}{end}"
        for end, words in groups
        if words
    )


def _moves(old: Host, new: Host) -> Iterator[str]:
    for what, before, after in (("zone", old.zone, new.zone), ("subnet", old.subnet, new.subnet)):
        if before != after:
            yield f"{what} {before or 'none'} becomes {after or 'none'}"


def _renewed(before: Region, after: Region, old: Host, new: Host) -> Iterator[str]:
    """What makes a host anew that takes up all that the site says."""
    if not new.renew:
        return
    if before.image != after.image:
        yield "another image"
    elif not old.renew:
        yield _TAKES
    # In AWS a disk grows where it is.
    if old.disk_gb != new.disk_gb and after.cloud != "aws":
        yield _disk(old, new)
    marked = (before.tags, old.groups, old.role) != (after.tags, new.groups, new.role)
    if marked and after.cloud == "gcp":
        yield "labels of its disk change"


def _stops(after: Region, old: Host, new: Host) -> Iterator[str]:
    if new.renew and old.instance != new.instance:
        yield _type(old, new)
    # Another service account is taken by a machine that stands still.
    if old.role != new.role and after.cloud == "gcp":
        yield f"role {old.role} becomes {new.role}"


def _waits(old: Host, new: Host) -> Iterator[str]:
    if new.renew:
        return
    if old.instance != new.instance:
        yield _type(old, new)
    if old.disk_gb != new.disk_gb:
        yield _disk(old, new)


def _changes(after: Region, old: Host, new: Host) -> Iterator[str]:
    if new.renew and old.disk_gb != new.disk_gb and after.cloud == "aws":
        smaller = new.disk_gb < old.disk_gb
        yield _disk(old, new) + (", and `pulumi up` fails: AWS makes no disk smaller" if smaller else "")
    if old.role != new.role and after.cloud != "gcp":
        yield f"role {old.role} becomes {new.role}"
    if old.groups != new.groups:
        yield f"groups {' '.join(old.groups) or 'none'} become {' '.join(new.groups) or 'none'}"
    if old.forwards != new.forwards:
        yield f"forwarding {old.forwards} becomes {new.forwards}"


def _type(old: Host, new: Host) -> str:
    return f"type {old.instance.name} becomes {new.instance.name}"


def _disk(old: Host, new: Host) -> str:
    return f"disk {old.disk_gb} GB becomes {new.disk_gb} GB"
