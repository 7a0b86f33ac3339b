"""What an edit of a site file changes, in words, before anything is made."""

from __future__ import annotations

from collections.abc import Iterator

from edge_iac.plan.cost import costs_of, total_usd
from edge_iac.plan.host_changes import of_host
from edge_iac.plan.model import Networks, Plan, Probes, Region, Rule
from edge_iac.site import Site
from edge_iac.site.front import forwarding_rules


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
        end = "everything in it is made anew"
        if new.cloud == "azure" and old.hosts and new.hosts:
            end = "`pulumi up` refuses it, since Azure changes no network that hosts stand in"
        yield f"the network {old.network} becomes {new.network}: {end}"
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
        yield from _of_listeners(old, new)
    if old.leaving != new.leaving:
        yield f"what outlives hosts {'loses its protection' if new.leaving else 'is protected again'}"
    yield from _of_hosts(old, new)
    yield from _of_addresses(old, new)
    yield from _of_rules(old, new)


def _of_listeners(old: Region, new: Region) -> Iterator[str]:
    """Ports that were taken before, and of which clients feel that others come or go."""
    if new.cloud == "aws":
        yield from _of_target_groups(old, new)
    if new.cloud == "gcp":
        yield from _of_forwarding_rules(old, new)


def _of_target_groups(old: Region, new: Region) -> Iterator[str]:
    """In AWS a port's protocols are those of its target group: others make a new group."""
    before, after = _protocols(old), _protocols(new)
    for port in sorted(before.keys() & after.keys()):
        if before[port] != after[port]:
            yield (
                f"port {port} of the load balancer, {before[port]} before, takes {after[port]}: "
                "its hosts stand in a new target group, "
                "and what clients open there fails until its health checks have passed"
            )


def _of_forwarding_rules(old: Region, new: Region) -> Iterator[str]:
    """In Google Cloud a rule takes some ports, and is made anew for others."""
    before, after = forwarding_rules(old.front_ports), forwarding_rules(new.front_ports)
    for name in sorted(before.keys() & after.keys()):
        both = [port for port in before[name] if port in after[name]]
        if both and before[name] != after[name]:
            ports = ", ".join(f"{protocol} {port}" for protocol, port in both)
            words = f"clients of {ports} fail for the moment without it"
            yield f"the forwarding rule {name} is made anew: {words}"


def _protocols(region: Region) -> dict[int, str]:
    """Port of the load balancer -> 'tcp', 'udp', or 'tcp and udp'."""
    found: dict[int, set[str]] = {}
    for protocol, port in region.front_ports:
        found.setdefault(port, set()).add(protocol)
    return {port: " and ".join(sorted(protocols)) for port, protocols in found.items()}


def _of_hosts(old: Region, new: Region) -> Iterator[str]:
    before = {host.name: host for host in old.hosts}
    after = {host.name: host for host in new.hosts}
    for name in sorted(after.keys() - before.keys()):
        yield f"+ {name} ({after[name].instance.name}, {', '.join(after[name].groups) or after[name].role})"
    for name in sorted(before.keys() - after.keys()):
        yield f"- {name}; drain it first (playbooks/decommission.yml)"
    for name in sorted(before.keys() & after.keys()):
        if said := of_host(before[name], after[name], old, new):
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
    for name in sorted(before & (set(new.idle) - set(old.idle))):
        end = "waits for a host of that name" if new.keeps(name) else "loses its protection"
        yield f"{name}: its address {end}"


def _addresses(region: Region) -> set[str]:
    hosts = {host.name for host in region.hosts if host.public}
    return {*hosts, *region.vips, *region.idle}


def _left(region: Region) -> str:
    kept = sorted(name for name in _addresses(region) if region.keeps(name))
    if not kept:
        return ""
    return (
        f"; {len(kept)} addresses are protected, and `pulumi up` fails: "
        "say leaving: true and `pulumi up` before the region is taken out"
    )


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
        kept = "; in Google Cloud disks of hosts keep theirs until they are renewed" if new.clouds.gcp else ""
        yield f"tags change on everything{kept}"
    for place, account in _accounts(old).items():
        if account and _accounts(new).get(place) not in (None, account):
            yield f"{place} {account} becomes {_accounts(new)[place]}: everything in it is made anew"
    if old.dns != new.dns:
        yield "the public name changes"
    yield from _of_tunnels(before, after)


def _of_tunnels(before: Plan, after: Plan) -> Iterator[str]:
    """Role `interconnect` counts ports by the order of the regions."""
    old, new = (
        {(one.cloud, one.name): number for number, one in enumerate(plan.joined)} for plan in (before, after)
    )
    moved = [" ".join(place) for place in old if place in new and old[place] != new[place]]
    if moved:
        yield (
            f"tunnels of {', '.join(moved)} get other ports, and are cut "
            "until `site.yml` has run on all hosts: "
            "a region that comes last in the file moves none"
        )


def _accounts(site: Site) -> dict[str, str | None]:
    """What a cloud's provider cannot change: all that was made through it would go."""
    gcp, azure = site.clouds.gcp, site.clouds.azure
    return {
        "gcp: project": gcp.project if gcp else None,
        "azure: subscription": azure.subscription if azure else None,
    }


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
