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
        # As the model has them, not as they are written: domains are compared in lower case.
        named = [item.name for item in items if item.name is not None]
        if len(set(named)) == len(named):
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
