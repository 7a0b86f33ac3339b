"""What is left of a document when everything wrong is cut out of it.

So that one wrong value does not hide ten others, the rest still goes through the checks; and so that what
is reported has the right path, the places of everything that is left are remembered.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

FAILED = "$failed"
"""Key of the mark that stands for a value which gathering could not read (and complained about)."""

Loc = tuple[int | str, ...]

_ROUNDS = 50


class Fragment:
    """A document, what was cut out of it, and where each remaining list item was at first."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.original = document
        self.document: dict[str, Any] = dict(document)
        self.damaged: set[tuple[str | int, ...]] = set()
        self.unread: set[str] = set()
        """Paths of what gathering could not read: lacking it is no second mistake."""
        self._shifts: dict[str, list[int]] = {}
        # Containers that are copies already: a second cut in a long list must not copy it again.
        self._copies: set[int] = {id(self.document)}
        self.kept = {
            key: list(range(len(value))) for key, value in document.items() if isinstance(value, list | tuple)
        }

    def cut(self, loc: Loc) -> None:
        """Takes the value at ``loc`` out, copying only what is on the way."""
        head: int | str = loc[0]
        if len(loc) > 1 and head in self.kept and isinstance(loc[1], int):
            self.damaged.add((head, self.kept[str(head)][loc[1]]))
        else:
            self.damaged.add((head,))
        here: Any = self.document
        for step in loc[:-1]:
            child = here[step]
            if id(child) not in self._copies:
                child = dict(child) if isinstance(child, Mapping) else list(child)
                self._copies.add(id(child))
                here[step] = child
            here = child
        if isinstance(here, list):
            if len(loc) > 2:
                self._note_shift(loc, len(here))
            del here[int(loc[-1])]
            if len(loc) == 2 and head in self.kept:
                del self.kept[str(head)][int(loc[1])]
        else:
            here.pop(loc[-1], None)

    def _note_shift(self, loc: Loc, length: int) -> None:
        """Remembers where the items of an inner list were, before one of them goes."""
        at = self.kept[str(loc[0])][loc[1]] if loc[0] in self.kept and isinstance(loc[1], int) else loc[1]
        label = path_of(self.original, (loc[0], at, *loc[2:-1]))
        del self._shifts.setdefault(label, list(range(length)))[int(loc[-1])]

    def original_path(self, path: str) -> str:
        """``path`` as it was before anything was cut out of the lists on its way."""
        for label, kept in self._shifts.items():
            if path.startswith(label + "["):
                index, _, rest = path[len(label) + 1 :].partition("]")
                if index.isdigit() and int(index) < len(kept):
                    return f"{label}[{kept[int(index)]}]{rest}"
        return path

    def cut_failed(self) -> None:
        """Cuts out what could not be read: gathering has complained about it already."""
        for loc in sorted(_failed(self.original), key=_later_first, reverse=True):
            self.unread.add(path_of(self.original, loc))
            self.cut(loc)

    def exists(self, loc: Loc) -> bool:
        here: Any = self.document
        for step in loc:
            known = (isinstance(here, Mapping) and step in here) or (
                isinstance(here, list | tuple) and isinstance(step, int) and step < len(here)
            )
            if not known:
                return False
            here = here[step]
        return True


def path_of(document: Any, loc: Loc) -> str:
    """('services', 0, 'endpoints', 1, 'port') -> 'services[shop].endpoints[1].port'."""
    text = ""
    here = document
    for step in loc:
        if step == "[key]":
            continue
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, Mapping) else None
            text += f"[{name if isinstance(name, str) else step}]"
        else:
            text += f".{step}" if text else str(step)
    return text


def _failed(node: Any, loc: Loc = ()) -> Iterator[Loc]:
    """Places whose template or vault value could not be read: gathering has complained about them already."""
    if isinstance(node, Mapping):
        if FAILED in node:
            yield loc
            return
        for key, value in node.items():
            yield from _failed(value, (*loc, key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _failed(value, (*loc, index))


def _later_first(loc: Loc) -> list[tuple[bool, int, str]]:
    """Sort key: with reverse=True, later list items come first, so that cutting moves no other place."""
    return [(isinstance(step, str), step if isinstance(step, int) else 0, str(step)) for step in loc]


def _cuts(errors: list[ErrorDetails], fragment: Fragment) -> list[Loc]:
    """The smallest things to take out so that the rest may pass; later list items first."""
    places: set[Loc] = set()
    for error in errors:
        loc = tuple(step for step in error["loc"] if step != "[key]")
        if error["type"] == "missing":
            loc = loc[:-1]
        while loc and not fragment.exists(loc):
            loc = loc[:-1]
        if loc:
            places.add(loc)
    minimal = [loc for loc in places if not any(loc[:n] in places for n in range(1, len(loc)))]
    return sorted(minimal, key=_later_first, reverse=True)


def validated(model: type[BaseModel], fragment: Fragment) -> tuple[Any, list[ErrorDetails]]:
    """(model of what is right, errors of form). The model is None when nothing usable is left."""
    first: list[ErrorDetails] | None = None
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(fragment.document), first or []
        except ValidationError as error:
            errors = error.errors(include_url=False)
            first = first if first is not None else errors
            cuts = _cuts(errors, fragment)
            if not cuts:
                break
            for loc in cuts:
                fragment.cut(loc)
    return None, first or []
