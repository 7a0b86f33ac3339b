# Copyright: MarchProxy contributors
# Apache License 2.0 (see LICENSE)
"""Inventory plugin: the hosts that a Pulumi stack made."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pulumi_stack
short_description: The hosts that a Pulumi stack made
version_added: 0.1.0
author: MarchProxy contributors (@marchproxy)
description:
  - Reads the output C(edge_inventory) of a stack and makes its hosts the inventory; nothing is typed twice.
  - A stack that cannot be read, is of a schema this collection does not know or holds a secret is an error;
    so is a locked one where O(source=state), while the CLI gives the last outputs of it. With
    C(any_unparsed_is_failed) of the collection's C(ansible.cfg) it never makes the inventory smaller.
  - Hosts are in the groups the stack says (C(ingress), C(l4), C(egress), C(control), C(observability)) and in
    a group named after their cloud. They have C(cloud), C(region), C(zone), C(address), C(private_address),
    C(edge_nic), C(edge_id) and C(edge_labels); ingress hosts whose load balancer keeps the address that
    clients asked (Google Cloud) have it as C(vip).
  - Hosts have C(edge_cloud_rules), the proxies' ports as the site file has them and what the clouds' rules
    let in. C(validate) compares the inventory's C(ports) and services with it.
  - The group C(all) has C(edge_site) and C(edge_vips), the group C(control) has C(edge_prices).
  - Where the stack makes the way between its regions, C(all) has C(interconnect) (role C(interconnect)) and
    C(control) has C(interconnect_tables) (role C(interconnect_failover)).
  - Hosts without a public address are reached through the host that the stack names (C(ssh.jump) of the site
    file), unless C(ansible_ssh_common_args) say otherwise; its key comes from the agent or C(~/.ssh/config).
  - Host keys stay checked. The site's authority signed each host's key, and ssh is given a file of known
    hosts that names this authority.
options:
  plugin:
    description: Marks the file as this plugin's.
    required: true
    type: str
    choices: [marchproxy.edge.pulumi_stack, pulumi_stack]
  stack:
    description: Name of the stack. Needed with I(source=cli) and I(source=state).
    type: str
    env: [{name: MARCHPROXY_STACK}]
  source:
    description:
      - C(cli) asks the Pulumi CLI and works with every backend.
      - C(state) reads the files of a local backend, without a CLI.
      - C(file) reads what C(pulumi stack output edge_inventory --json) said.
    type: str
    choices: [cli, state, file]
    default: cli
  project:
    description: With I(source=cli), the folder of C(Pulumi.yaml), beside this file or absolute.
    type: str
    default: ../../pulumi
  project_name:
    description: With I(source=state), the name of the project.
    type: str
    default: edge
  path:
    description:
      - With I(source=state), the folder of the backend; with I(source=file), the saved file.
      - Beside this file or absolute.
    type: str
  command:
    description: The Pulumi CLI.
    type: list
    elements: str
    default: [pulumi]
  environment:
    description: Variables for the CLI, for example C(PULUMI_BACKEND_URL) or C(PULUMI_CONFIG_PASSPHRASE_FILE).
    type: dict
    default: {}
  connect_by:
    description: Where Ansible connects to; C(name) leaves C(ansible_host) unset.
    type: str
    choices: [address, private_address, name]
    default: address
extends_documentation_fragment:
  - constructed
  - inventory_cache
"""

EXAMPLES = r"""
# inventories/prod/stack.yml. On a machine that reaches no backend of Pulumi, instead of the stack's name:
# source: file
# path: prod-hosts.json
plugin: marchproxy.edge.pulumi_stack
stack: prod
keyed_groups:
  - {key: region, prefix: region}
"""

import hashlib
import os
import re
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.marchproxy.edge.plugins.module_utils import stack_inventory
from ansible_collections.marchproxy.edge.plugins.module_utils.stack_inventory import StackUnreadable

PLUGIN = "marchproxy.edge.pulumi_stack"
_PLUGIN_KEY = re.compile(rb"""^plugin:\s*["']?([\w.]+)""", re.MULTILINE)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Adds the hosts of one stack."""

    NAME = PLUGIN
    # Names and addresses come from outside; nothing in them may become a template.
    trusted_by_default = False

    def verify_file(self, path):
        """A YAML file that names this plugin."""
        if not super().verify_file(path) or Path(path).suffix not in (".yml", ".yaml"):
            return False
        named = _PLUGIN_KEY.search(Path(path).read_bytes())
        return named is not None and named[1].decode(errors="replace") in (PLUGIN, "pulumi_stack")

    def parse(self, inventory, loader, path, cache=True):
        """Reads the stack; raises AnsibleParserError where it does not give its hosts."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.load_cache_plugin()
        try:
            document = self._document(Path(path), cache)
        except StackUnreadable as problem:
            raise AnsibleParserError(f"{path}: {problem}") from None
        self._fill(document)

    def _document(self, path, cache):
        key = self.get_cache_key(str(path))
        wanted = self.get_option("cache")
        if wanted and cache and key in self._cache:
            return stack_inventory.check(self._cache[key])
        document = stack_inventory.check(self._read(path))
        if wanted:
            self._cache[key] = document
        return document

    def _read(self, path):
        source, stack, beside = self.get_option("source"), self.get_option("stack"), path.parent
        if source == "file":
            return stack_inventory.from_file(beside / self._needed("path", source))
        if not stack:
            raise StackUnreadable(f"'source: {source}' needs 'stack: NAME' (or MARCHPROXY_STACK)")
        if source == "state":
            backend = str(beside / self._needed("path", source).removeprefix("file://"))
            return stack_inventory.from_state(stack, backend, self.get_option("project_name"))
        environment = {key: str(value) for key, value in self.get_option("environment").items()}
        return stack_inventory.from_cli(
            stack,
            beside / self.get_option("project"),
            command=self.get_option("command"),
            environment=environment,
        )

    def _needed(self, option, source):
        value = self.get_option(option)
        if not value:
            raise StackUnreadable(f"'source: {source}' needs '{option}:'")
        return value

    def _fill(self, document):
        known = self._known_hosts(document)
        strict, connect_by = self.get_option("strict"), self.get_option("connect_by")
        for group, values in self._site(document).items():
            self.inventory.add_group(group)
            for key, value in values.items():
                self.inventory.set_variable(group, key, value)
        for host in document["hosts"]:
            name = host["name"]
            self.inventory.add_host(name)
            for group in (*host["groups"], host["cloud"]):
                self.inventory.add_group(group)
                self.inventory.add_host(name, group=group)
            for key, value in {
                **stack_inventory.variables(document, host),
                **_connection(document, host, connect_by, known),
            }.items():
                self.inventory.set_variable(name, key, value)
            self._construct(name, strict)

    def _site(self, document):
        found = {"all": {"edge_site": document.get("site"), "edge_vips": document.get("vips") or []}}
        control = {}
        if document.get("prices"):
            control["edge_prices"] = document["prices"]
        if joined := document.get("interconnect"):
            # Route tables of the clouds bring packets to the gateways, unless their hosts have to.
            found["all"]["interconnect"] = {
                "type": joined["type"], "routes": "cloud", "networks": joined["networks"],
            }  # fmt: skip
            control["interconnect_tables"] = joined.get("tables") or []
        if control:
            found["control"] = control
        return found

    def _construct(self, name, strict):
        compose, groups, keyed = (self.get_option(key) for key in ("compose", "groups", "keyed_groups"))
        if not (compose or groups or keyed):
            return
        known = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(compose, known, name, strict=strict)
        known = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(groups, known, name, strict=strict)
        self._add_host_to_keyed_groups(keyed, known, name, strict=strict)

    def _known_hosts(self, document):
        """The file that makes ssh trust the site's authority, written where it says something else."""
        lines = stack_inventory.known_hosts(document)
        if not lines:
            return None
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marchproxy" / "known_hosts"
        # By its authority too: sites of one name (labs of two checkouts) do not take each other's file.
        name = re.sub(r"[^\w.-]", "_", str(document.get("site") or "site"))
        file = base / f"{name}-{hashlib.sha256(lines.encode()).hexdigest()[:8]}"
        if not file.exists() or file.read_text() != lines:
            base.mkdir(parents=True, exist_ok=True)
            fresh = file.with_name(f"{file.name}.{os.getpid()}")
            fresh.write_text(lines)
            fresh.replace(file)
        return file


def _connection(document, host, connect_by, known):
    found = {"ansible_user": host["user"]}
    if connect_by != "name":
        found["ansible_host"] = host[connect_by]
    # Extra, not common arguments: those are the user's, and come first.
    arguments = stack_inventory.ssh_arguments(document, host, known, connect_by)
    if arguments:
        found["ansible_ssh_extra_args"] = arguments
    return found
