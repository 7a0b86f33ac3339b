"""Whether a change may go ahead at all: whose edge it touches, and what would disappear. Pure."""

from __future__ import annotations

from xds_agent.model import Site
from xds_agent.rollout import completeness, entitlement
from xds_agent.rollout.change import Change, Conflict, NotEntitled


def admit(live: Site | None, site: Site, change: Change) -> None:
    """Raises NotEntitled for what the asker's socket does not speak for, Conflict for unnamed removals."""
    if change.tenants is not None:
        outside = entitlement.beyond(live, site, change.tenants)
        if outside:
            raise NotEntitled(
                f"this socket speaks for tenant {', '.join(sorted(change.tenants)) or 'none'} only, the "
                f"change also touches {'; '.join(outside)}",
                "use the socket of all tenants, or ask who owns them",
            )
    if live is None:
        return
    refused = completeness.not_allowed(completeness.removals(live, site), change.allow_removal)
    if refused:
        names = ",".join(dict.fromkeys(one.name for one in refused))
        raise Conflict(
            f"{'; '.join(one.text for one in refused)}: an incomplete inventory looks the same",
            f"if it is meant, say so: -e allow_removal={names}",
        )
