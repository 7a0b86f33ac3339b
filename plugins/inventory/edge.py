# Copyright: MarchProxy contributors
# Apache License 2.0 (see LICENSE)
"""Inventory plugin: what the edge does, from edge.yml and the folder edge/ beside it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: edge
short_description: What the edge does, beside the hosts in the inventory
version_added: 0.1.0
author: MarchProxy contributors (@marchproxy)
description:
  - Reads C(edge.yml) and every C(*.yml), C(*.yaml) and C(*.json) file of the folder C(edge/) beside it, in
    any layout, so that teams own files.
  - Lists are merged by C(name); the same name in two files is a problem that names both places. Files below
    C(edge/overlays/) come last and change items by name (C(state=absent) removes one).
  - Vault values and templates work, and every value remembers its file and line.
  - Sets the variables C(edge) and C(edge_gathered) on the group C(control) only; other hosts pay nothing for
    them.
  - Mistakes do not stop the inventory. C(validate_edge), C(fleet) and C(xds-agent validate) report all of
    them at once, together with what the model finds, and change nothing.
  - Put C(ignore_patterns = ^edge$) in the section C([inventory]) of C(ansible.cfg), so that Ansible does not
    read the folder as an inventory of its own.
options:
  plugin:
    description: Marks the file as this plugin's.
    required: true
    type: str
    choices: [marchproxy.edge.edge, edge]
notes:
  - The other keys of C(edge.yml) are the sections of the inventory language, see C(docs/inventory.md).
"""

EXAMPLES = r"""
# edge.yml of a small site: everything in one file
plugin: marchproxy.edge.edge
certificates:
  - name: shop
domains:
  - {name: shop.example.com, certificate: shop}
services:
  - name: shop
    domains: [shop.example.com]
    endpoints:
      - {group: shop_backends, port: 8080}
"""

import re
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible_collections.marchproxy.edge.plugins.module_utils.edge_files import gather
from ansible_collections.marchproxy.edge.plugins.module_utils.edge_merge import PLUGIN, Merger
from ansible_collections.marchproxy.edge.plugins.module_utils.origins import origin_of

GROUP = "control"
_PLUGIN_KEY = re.compile(rb"""^plugin:\s*["']?([\w.]+)""", re.MULTILINE)


class InventoryModule(BaseInventoryPlugin):
    """Sets `edge` (merged, not templated) and `edge_gathered` on group control."""

    NAME = PLUGIN
    # Values are trusted one by one as they are read; nothing else may become a template.
    trusted_by_default = False

    def verify_file(self, path):
        """Only edge.yml and edge.yaml, unless the file names another plugin."""
        if Path(path).name not in ("edge.yml", "edge.yaml") or not super().verify_file(path):
            return False
        # By hand: a file with a mistake in it is ours too, and is reported with all the others.
        named = _PLUGIN_KEY.search(Path(path).read_bytes())
        return named is None or named[1].decode(errors="replace") in (PLUGIN, "edge")

    def parse(self, inventory, loader, path, cache=True):
        """Reads the files and sets the variables; raises only where the inventory cannot hold them."""
        super().parse(inventory, loader, path, cache)
        inventory.add_group(GROUP)
        control = inventory.groups.get(GROUP)
        if control is None:
            raise AnsibleParserError(f"group {GROUP} cannot be made: a host has that name")
        merger = Merger(origin_of)
        earlier = control.vars.get("edge_gathered") or {"problems": [], "encrypted": [], "incomplete": False}
        if control.vars.get("edge"):
            # A second inventory source with an edge of its own: both hold, like two files of one folder.
            merger.add(control.vars["edge"], "an earlier inventory source")
        found = gather(loader, path, merger)
        inventory.set_variable(GROUP, "edge", found["edge"])
        inventory.set_variable(
            GROUP,
            "edge_gathered",
            {
                "problems": earlier["problems"] + found["problems"],
                "encrypted": earlier["encrypted"] + found["encrypted"],
                "incomplete": earlier["incomplete"] or found["incomplete"],
            },
        )
        for one in found["problems"]:
            self.display.vv("edge: {}; {}".format(one["message"], one["origin"]))
