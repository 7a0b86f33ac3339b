"""Merges the files of the edge: lists by name, overlays last. Standard library only.

Mistakes do not stop the merge: each becomes a problem (path, message, fix, origin), so that one report
can name all of them together with what the model finds.
"""

from __future__ import annotations

import difflib
import json

# What a section is. A test compares this with the model of the agent.
LISTS = ("tenants", "certificates", "authorities", "domains", "services", "routes", "mappings", "maintenance")
MAPPINGS = ("protection", "clouds", "rollout", "ports", "limits")
SECTIONS = LISTS + MAPPINGS

PLUGIN = "marchproxy.edge.edge"
STATE = "state"
ABSENT = "absent"
PRESENT = "present"


def problem(path, message, fix="", origin=None):
    """One problem, as the agent's model writes it."""
    return {"path": path, "message": message, "fix": fix, "origin": origin}


def nearest(word, known):
    """'did you mean ...', or the known words."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if found:
        return f"did you mean '{found[0]}'?"
    return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= 20 else ""


def _no_origin(value):
    return None


def _name(item):
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def _kind(value):
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "text" if isinstance(value, str) else "one value"


def _place(origin):
    """'shop.yml:41:7' -> 'shop.yml:41'."""
    if not origin:
        return "another file"
    head, _colon, column = origin.rpartition(":")
    return head if column.isdigit() and head.rpartition(":")[2].isdigit() else origin


class Merger:
    """Takes documents of files and gives one edge; ``problems`` holds what is wrong.

    ``origin_of(value)`` says where a value was written (file:line:column), or None.
    Values of the documents are used as they are and changed in place, so that they keep their origins.
    """

    def __init__(self, origin_of=_no_origin):
        self._origin_of = origin_of
        self._lists = {}
        self._mappings = {}
        # Section names as first written: they carry their own origin.
        self._keys = {}
        self.problems = []

    def add(self, document, source):
        """One file below edge/ (or edge.yml). ``source`` names it where values say nothing."""
        for section, value in self._sections(document, source):
            if section in LISTS:
                self._add_items(section, value, source)
            else:
                self._add_mapping(section, value, source)

    def overlay(self, document, source):
        """One file of edge/overlays: its items are merged into those of the same name."""
        for section, value in self._sections(document, source):
            if section in LISTS:
                for item in value:
                    self._overlay_item(section, item, source)
            else:
                self._overlay_into(self._mappings.setdefault(section, {}), value)

    def result(self):
        """The merged edge. Lists are sorted by name, then by content: files and their order do not show."""
        edge = {}
        for section in SECTIONS:
            if section in self._lists:
                edge[self._keys[section]] = sorted(self._lists[section], key=_order)
            elif section in self._mappings:
                edge[self._keys[section]] = self._mappings[section]
        return edge

    def _say(self, path, message, fix="", at=None, source=None):
        origin = self._origin_of(at) if at is not None else None
        self.problems.append(problem(path, message, fix, origin or source))

    def _sections(self, document, source):
        """(section, value) of what can be used of a document."""
        if document is None:
            return
        if not isinstance(document, dict):
            known = f"{SECTIONS[4]}: [...]"
            self._say(
                "",
                f"the file holds {_kind(document)}, not a mapping",
                f"begin it with a key such as {known}",
                document,
                source,
            )
            return
        for key, value in document.items():
            if key not in SECTIONS:
                self._say(str(key), f"unknown key '{key}'", nearest(str(key), SECTIONS), key, source)
            elif value is None:
                continue
            elif key in LISTS and not isinstance(value, list):
                if _is_template(value):
                    self._say(
                        key,
                        "a whole list cannot be a template",
                        "write the list, with templates for its values",
                        value,
                        source,
                    )
                else:
                    self._say(
                        key,
                        f"is {_kind(value)}, not a list",
                        "begin each item with '- name: ...'",
                        value,
                        source,
                    )
            elif key in MAPPINGS and not isinstance(value, dict):
                self._say(key, f"is {_kind(value)}, not a mapping", "write keys below it", value, source)
            else:
                self._keys.setdefault(key, key)
                yield key, value

    def _add_items(self, section, items, source):
        known = self._lists.setdefault(section, [])
        names = {_name(item): item for item in known}
        for item in items:
            name = _name(item)
            if name is not None and name in names:
                first = _place(self._origin_of(names[name]))
                self._say(
                    f"{section}[{name}]",
                    f"'{name}' is already at {first}",
                    "rename or remove one; to change it from another file, write it below edge/overlays/",
                    item,
                    source,
                )
                continue
            names[name] = item
            known.append(item)

    def _add_mapping(self, section, value, source):
        known = self._mappings.setdefault(section, {})
        origins = {key: key for key in known}
        for key, one in value.items():
            if key in known:
                first = _place(self._origin_of(origins[key]) or self._origin_of(known[key]))
                self._say(
                    f"{section}.{key}",
                    f"is already at {first}",
                    "remove one; to change it from another file, write it below edge/overlays/",
                    key,
                    source,
                )
                continue
            known[key] = one

    def _overlay_item(self, section, item, source):
        name = _name(item)
        if name is None:
            fix = "an overlay finds what it changes by name: add it"
            self._say(section, "an overlay item has no name", fix, item, source)
            return
        known = self._lists.setdefault(section, [])
        at = next((index for index, one in enumerate(known) if _name(one) == name), None)
        state = item.pop(STATE, PRESENT)
        path = f"{section}[{name}]"
        if state not in (PRESENT, ABSENT):
            self._say(f"{path}.{STATE}", f"'{state}' is not a state", "use present or absent", item, source)
        elif state == PRESENT and at is None:
            known.append(item)
        elif state == PRESENT:
            self._overlay_into(known[at], item)
        elif at is None:
            names = [one for one in map(_name, known) if one]
            self._say(path, "there is nothing to remove", nearest(name, names), item, source)
        else:
            del known[at]

    def _overlay_into(self, base, over):
        """Mappings are merged key by key, other values replaced; null goes back to the default."""
        for key, value in over.items():
            if value is None:
                base.pop(key, None)
            elif isinstance(value, dict) and isinstance(base.get(key), dict):
                self._overlay_into(base[key], value)
            else:
                # The key's own tag names the overlay, not the file below it.
                base.pop(key, None)
                base[key] = value


def _is_template(value):
    return isinstance(value, str) and "{{" in value


def _order(item):
    name = _name(item)
    if name is not None:
        return 0, name, ""
    return 1, "", json.dumps(item, sort_keys=True, default=str)
