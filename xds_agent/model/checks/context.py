"""What every check works on, and how it says what is wrong."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from xds_agent.model.edge import Edge
from xds_agent.model.site import Host, Site
from xds_agent.model.words import instead_of

_SUGGESTIONS = 50
"""Looking for the nearest of thousands of names costs milliseconds; after this many, none is offered."""


@dataclass
class Context:
    """The edge as far as its form is right, and the raw document it came from.

    ``kept`` maps a list's key to the original index of each item that is left, ``damaged`` holds the
    items of which something was cut out: what they lack may only be missing because of that.
    """

    edge: Edge
    hosts: Mapping[str, Host]
    raw: Mapping[str, Any]
    kept: Mapping[str, list[int]]
    damaged: set[tuple[str | int, ...]]
    add: Callable[[str, str, str], None]
    _suggested: int = field(default=0, init=False)

    @cached_property
    def site(self) -> Site:
        """The site under check, for its derived views."""
        return Site(edge=self.edge, hosts=self.hosts)

    def names(self, section: str) -> frozenset[str]:
        """All names of a list, those of damaged items too: they are mistakes of their own."""
        found = self._names.get(section)
        if found is None:
            items = self.raw.get(section) or ()
            items = items if isinstance(items, list | tuple) else ()
            found = frozenset(
                item["name"]
                for item in items
                if isinstance(item, Mapping) and isinstance(item.get("name"), str)
            )
            self._names[section] = found
        return found

    @cached_property
    def _names(self) -> dict[str, frozenset[str]]:
        return {}

    def _has_nameless(self, section: str) -> bool:
        items = self.raw.get(section)
        if not isinstance(items, list | tuple):
            return False
        return any(not isinstance(item, Mapping) or not isinstance(item.get("name"), str) for item in items)

    def label(self, section: str, index: int) -> str:
        """Path of item ``index`` of a list: 'services[shop]', or 'routes[3]' for one without a name."""
        at = self.kept[section][index]
        # The name as written: domains are compared in lower case, but origins know the file's spelling.
        name = self.raw[section][at].get("name")
        return f"{section}[{name if name is not None else at}]"

    def whole(self, section: str, index: int | None = None) -> bool:
        """True when nothing was cut out of the item, so that what it lacks is really lacking."""
        if (section,) in self.damaged:
            return False
        return index is None or (section, self.kept[section][index]) not in self.damaged

    def unknown(self, path: str, what: str, name: str, known: Iterable[str], section: str) -> None:
        """Says that ``name`` refers to nothing, and offers the nearest name or the place to add it.

        Says nothing while the list is broken itself: what is looked for may be what is broken.
        """
        if (section,) in self.damaged or self._has_nameless(section):
            return
        self._suggested += 1
        fix = instead_of(name, known, section) if self._suggested <= _SUGGESTIONS else ""
        self.add(path, f"there is no {what} '{name}'", fix or f"add it under {section}")
