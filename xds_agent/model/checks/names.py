"""Names within a list are unique."""

from xds_agent.model.checks.context import Context

_NAMED = (
    "tenants",
    "certificates",
    "authorities",
    "domains",
    "services",
    "routes",
    "mappings",
    "maintenance",
)


def check_duplicates(context: Context) -> None:
    """Two items of one list with one name: the plugin names both places, this guards other callers."""
    for section in _NAMED:
        items = getattr(context.edge, section)
        if len(context.names(section)) == len(items):
            continue
        seen: set[str] = set()
        for index, item in enumerate(items):
            if item.name is None:
                continue
            if item.name in seen:
                context.add(
                    context.label(section, index), f"'{item.name}' is there twice", "rename or remove one"
                )
            seen.add(item.name)
