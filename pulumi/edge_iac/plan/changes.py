"""What an edit of a site file changes, in words, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator

from edge_iac.plan.cost import costs_of, total_usd
from edge_iac.plan.model import Host, Networks, Plan, Probes, Region, Rule


def changes(before: Plan, after: Plan) -> tuple[str, ...]:
    """Sentences, region by region; what a change of costs comes to stands last."""
    found = [*_regions(before, after), *_site(before, after)]
    old, new = round(total_usd(costs_of(before))), round(total_usd(costs_of(after)))
    if old != new:
        found.append(f"costs: {old} USD per month become {new} ({new - old:+})")
    return tuple(found)


def _regions(before: Plan, after: Plan) -> Iterator[str]:
    old = {(one.cloud, one.name): one for one in before.regions}
    new = {(one.cloud, one.name): one for one in after.regions}
    for place in sorted(old.keys() - new.keys()):
        yield f"{' '.join(place)}: the region goes, with {_hosts(old[place])}{_left(old[place])}"
    for place in sorted(new.keys() - old.keys()):
        yield f"{' '.join(place)}: a new region, with {_hosts(new[place])}"
    for place in sorted(old.keys() & new.keys()):
        for sentence in _region(old[place], new[place]):
            yield f"{' '.join(place)}: {sentence}"


def _region(old: Region, new: Region) -> Iterator[str]:
    if old.network != new.network:
        yield f"the network {old.network} becomes {new.network}: everything in it is made anew"
    if old.zones != new.zones:
        yield f"zones {', '.join(old.zones)} become {', '.join(new.zones)}"
    if old.image != new.image:
        image = new.image or "that of the catalogue"
        yield f"another image ({image}), for new hosts and those named under renew"
    if old.ipv6 != new.ipv6:
        yield f"IPv6 {'comes' if new.ipv6 else 'goes'}"
    if old.front != new.front:
        yield f"the load balancer {'comes' if new.front else 'goes'}"
    elif old.front_ports != new.front_ports:
        yield f"the load balancer takes {_ports(new)} (before: {_ports(old)})"
    if old.leaving != new.leaving:
        yield f"what outlives hosts {'loses its protection' if new.leaving else 'is protected again'}"
    yield from _of_hosts(old, new)
    yield from _of_addresses(old, new)
    yield from _of_rules(old, new)


def _of_hosts(old: Region, new: Region) -> Iterator[str]:
    before = {host.name: host for host in old.hosts}
    after = {host.name: host for host in new.hosts}
    for name in sorted(after.keys() - before.keys()):
        yield f"+ {name} ({after[name].instance.name}, {', '.join(after[name].groups) or after[name].role})"
    for name in sorted(before.keys() - after.keys()):
        yield f"- {name}; drain it first (playbooks/decommission.yml)"
    for name in sorted(before.keys() & after.keys()):
        if said := _of_host(before[name], after[name], image=old.image != new.image):
            yield f"{name}: {said}"


def _of_addresses(old: Region, new: Region) -> Iterator[str]:
    before, after = _addresses(old), _addresses(new)
    for name in sorted(before - after):
        if old.keeps(name):
            yield (
                f"{name}: its address is protected, and `pulumi up` fails: "
                f"say {name}: kept or {name}: released under addresses"
            )
        else:
            yield f"{name}: its address is given back to the cloud"
    idle = {one.name for one in new.idle} - {one.name for one in old.idle}
    for name in sorted(before & idle):
        end = "waits for a host of that name" if new.keeps(name) else "loses its protection"
        yield f"{name}: its address {end}"


def _addresses(region: Region) -> set[str]:
    hosts = {host.name for host in region.hosts if host.public}
    return {*hosts, *region.vips, *(one.name for one in region.idle)}


def _left(region: Region) -> str:
    kept = sorted(name for name in _addresses(region) if region.keeps(name))
    if not kept:
        return ""
    return (
        f"; {len(kept)} addresses are protected, and `pulumi up` fails: "
        "say leaving: true and `pulumi up` before the region is taken out"
    )


def _of_host(old: Host, new: Host, *, image: bool) -> str:
    replaced = [
        f"{what} {before or 'none'} becomes {after or 'none'}"
        for what, before, after in (("zone", old.zone, new.zone), ("subnet", old.subnet, new.subnet))
        if before != after
    ]
    if image and new.renew:
        replaced.append("another image")
    elif new.renew and not old.renew:
        replaced.append("takes image, logins and host key as they are now; where it has others")
    changed = [
        f"{what} {before} becomes {after}"
        for what, before, after in (
            ("type", old.instance.name, new.instance.name),
            ("disk", f"{old.disk_gb} GB", f"{new.disk_gb} GB"),
            ("role", old.role, new.role),
            ("groups", " ".join(old.groups), " ".join(new.groups)),
            ("forwarding", old.forwards, new.forwards),
        )
        if before != after
    ]
    words = ", ".join([*replaced, *changed])
    return f"{words}: it is replaced" if replaced else words


def _of_rules(old: Region, new: Region) -> Iterator[str]:
    before = {rule.name: rule for rule in old.rules}
    after = {rule.name: rule for rule in new.rules}
    for name in sorted(after.keys() - before.keys()):
        yield f"opens {_rule(after[name])}"
    for name in sorted(before.keys() - after.keys()):
        yield f"closes {_rule(before[name])}"
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"opens {_rule(after[name])}; before: {_rule(before[name])}"


def _site(before: Plan, after: Plan) -> Iterator[str]:
    old, new = before.site, after.site
    if (old.ssh.user, old.ssh.authorized_keys) != (new.ssh.user, new.ssh.authorized_keys):
        yield (
            "logins change: they are given at the first boot (in Google Cloud at any time); "
            "hosts named under renew are replaced, the others keep theirs"
        )
    if old.tags != new.tags:
        yield "tags change on everything"
    if old.dns != new.dns:
        yield "the public name changes"


def _rule(rule: Rule) -> str:
    if isinstance(rule.source, Networks):
        source = ", ".join(rule.source.ranges)
    elif isinstance(rule.source, Probes):
        source = "health checks"
    else:
        source = ", ".join(rule.source.roles)
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in rule.ports]
    return f"{rule.target} to {source} ({' '.join([rule.protocol, *spans])})"


def _ports(region: Region) -> str:
    return ", ".join(f"{protocol} {port}" for protocol, port in region.front_ports)


def _hosts(region: Region) -> str:
    count = len(region.hosts)
    return f"{count} host{'' if count == 1 else 's'}"
