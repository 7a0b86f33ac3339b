"""Ports that the inventory and the file that a Pulumi stack was made of both speak of."""

from xds_agent.model.checks.context import Context


def check_cloud_rules(context: Context) -> None:
    """The proxies' own ports are those that the clouds' rules, balancers and health checks are made for."""
    rules = {
        host.cloud_rules.site: host.cloud_rules
        for host in context.hosts.values()
        if host.cloud_rules is not None
    }
    for one in rules.values():
        for key, port in sorted(one.ports.items()):
            own = getattr(context.edge.ports, key, None)
            if own is None or own == port:
                continue
            message = f"is {own}, and {one.file} makes the clouds' rules for {port}"
            fix = f"write ports: {{{key}: {own}}} in {one.file} and run `pulumi up`, or {key}: {port} here"
            context.add(f"ports.{key}", message, fix)
