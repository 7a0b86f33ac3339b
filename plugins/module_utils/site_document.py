"""The site document: what the agent's model reads, gathered from an inventory.

    {"schema": 1, "edge": {...}, "hosts": {...}, "origins": {path: "file:line:column"},
     "secret_paths": [path, ...], "problems": [...], "incomplete": bool}

`edge` is templated and plain (no tags, nothing but JSON). `secret_paths` names the values that came from a
vault: whoever prints leaves them out. `problems` are mistakes found while gathering (a duplicate, a syntax
error, a template that fails); the model reports them together with its own, and `incomplete` tells it that
a file could not be read at all, so that what is missing may be there.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.template import Templar

try:
    from ansible.parsing.vault import EncryptedString
except ImportError:  # pragma: no cover - another ansible-core
    from ansible.parsing.yaml.objects import AnsibleVaultEncryptedUnicode as EncryptedString

from ansible_collections.marchproxy.edge.plugins.module_utils.edge_merge import PLUGIN, problem
from ansible_collections.marchproxy.edge.plugins.module_utils.origins import file_of, is_vaulted, origin_of

SCHEMA = 1
FAILED = "$failed"
CONTROL = "control"
# Facts of place: key in the document -> host variables that may hold it, first found wins.
FACTS = {
    "address": ("address", "ansible_host"),
    "private_address": ("private_address",),
    "interconnect_endpoint": ("interconnect_endpoint",),
    "cloud": ("cloud",),
    "region": ("region",),
    "zone": ("zone",),
    "tenants": ("edge_tenants",),
    "vip": ("vip",),
    "interfaces": ("xdp_interfaces",),
    "cloud_rules": ("edge_cloud_rules",),
}
_IMPLIED_GROUPS = frozenset(("all", "ungrouped"))
_TEMPLATE = re.compile(r"\{\{|\{%")
_IDENTIFIER = re.compile(r"\b[A-Za-z_][A-Za-z0-9_]*\b")
_VAULT_PREFIX = "vault_"
_DEEPEST_REFERENCE = 5
# Whether a file of hosts that cannot be read is an error, not a warning and fewer hosts.
_UNREAD = "INVENTORY_ANY_UNPARSED_IS_FAILED"


def site_document(task_vars, templar=None):
    """The document, from an action plugin's task_vars. ``templar`` lends its loader and nothing else."""
    hostvars = task_vars["hostvars"]
    loader = getattr(templar, "_loader", None) or hostvars._loader
    return _Gatherer(loader, hostvars, task_vars["groups"]).document()


def build_from_inventory(path, vault_ids=(), vault_password_files=(), without_secrets=False):
    """The document of an inventory (folder or file), without a play. For `xds-agent validate` and `diff`.

    ``without_secrets``: no vault is opened; values from vaults are stand-ins, the same for the same place.

    The caller has run `ansible.plugins.loader.init_plugin_loader([".../.collections"])` before it imported
    this module: Ansible finds no plugin of a collection that was imported around its loader.
    """
    if not Path(path).exists():
        return _nothing(f"there is no inventory at {path}", "name the folder that holds edge.yml")
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    _prepare_ansible()
    loader = _without_vaults(DataLoader)() if without_secrets else DataLoader()
    # By its name: Ansible keeps for the process where "." once led.
    loader.set_basedir(str(Path.cwd()))
    try:
        _open_vaults(loader, vault_ids, vault_password_files)
        inventory = InventoryManager(loader=loader, sources=[path])
        variables = VariableManager(loader=loader, inventory=inventory)
        groups = inventory.get_groups_dict()
        hostvars = HostVars(inventory, variables, loader)
        return _Gatherer(loader, hostvars, groups, without_secrets=without_secrets).document()
    except AnsibleError as error:
        return _nothing(
            f"Ansible cannot read the inventory: {error}", f"see: ansible-inventory -i {path} --list"
        )


def _without_vaults(base):
    """A loader to which a vaulted file of variables holds none."""

    class Loader(base):
        def load_from_file(self, file_name, *arguments, **options):
            with Path(self.path_dwim(file_name)).open("rb") as file:
                if file.read(14) == b"$ANSIBLE_VAULT":
                    return {}
            return super().load_from_file(file_name, *arguments, **options)

    return Loader


def _open_vaults(loader, vault_ids, password_files):
    """Gives loader and templates the passwords. Raises AnsibleError for a file that cannot be read."""
    from ansible.cli import CLI
    from ansible.parsing.vault import VaultSecretsContext

    secrets = CLI.setup_vault_secrets(
        loader,
        vault_ids=list(vault_ids),
        vault_password_files=list(password_files),
        ask_vault_pass=False,
        auto_prompt=False,
        initialize_context=False,
    )
    loader.set_vault_secrets(secrets)
    # Inline vault values look here. Ansible allows it once in a process; we gather as often as we are asked.
    VaultSecretsContext._current = None
    VaultSecretsContext.initialize(VaultSecretsContext(secrets))


def _nothing(message, fix):
    return {
        "schema": SCHEMA,
        "edge": None,
        "hosts": {},
        "origins": {},
        "secret_paths": [],
        "problems": [problem("", message, fix)],
        "incomplete": True,
    }


def _prepare_ansible():
    """What ansible.cfg of the project says, also where there is none in the working directory."""
    import ansible.inventory.manager as manager
    from ansible import constants

    if not manager.IGNORED.search(b"edge"):
        manager.IGNORED = re.compile(b"^edge$|" + manager.IGNORED.pattern)
    if PLUGIN not in constants.INVENTORY_ENABLED:
        constants.INVENTORY_ENABLED = [PLUGIN, *constants.INVENTORY_ENABLED]
    if constants.config.get_config_value_and_origin(_UNREAD)[1] == "default":
        setattr(constants, _UNREAD, True)


class _Gatherer:
    """Builds one document."""

    def __init__(self, loader, hostvars, groups, without_secrets=False):
        self.loader = loader
        self.without_secrets = without_secrets
        self.hostvars = hostvars
        self.groups = groups
        self.origins = {}
        self.secret_paths = []
        self.problems = []

    def document(self):
        """Gathers edge and hosts."""
        members = self.groups.get(CONTROL) or []
        edge, incomplete = None, False
        if members:
            edge, incomplete = self._edge(sorted(members)[0])
        else:
            fix = "put the host of the control plane into group control"
            self.problems.append(problem("", "no host is in group control", fix))
        hosts = self._hosts()
        return {
            "schema": SCHEMA,
            "edge": edge,
            "hosts": hosts,
            "origins": self.origins,
            "secret_paths": sorted(self.secret_paths),
            "problems": self.problems,
            "incomplete": incomplete,
        }

    def _edge(self, host):
        variables = dict(self.hostvars.raw_get(host))
        variables.setdefault("hostvars", self.hostvars)
        variables.setdefault("groups", self.groups)
        gathered = variables.get("edge_gathered") or {}
        self.problems += [_plain(one) for one in gathered.get("problems", ())]
        raw = variables.get("edge")
        if raw is None:
            return None, bool(gathered.get("incomplete"))
        walker = _Walker(
            self, Templar(loader=self.loader, variables=variables), variables, gathered.get("encrypted", ())
        )
        edge = with_prices(walker.walk(raw, "edge", None), _plain(variables.get("edge_prices") or {}))
        return edge, bool(gathered.get("incomplete"))

    def _hosts(self):
        of_host = {}
        for group, members in self.groups.items():
            for name in members:
                of_host.setdefault(name, []).append(str(group))
        hosts = {}
        for name in sorted(of_host):
            variables = self.hostvars.raw_get(name)
            walker = _Walker(self, None, variables, ())
            facts = {"groups": sorted(set(of_host[name]) - _IMPLIED_GROUPS)}
            for key, sources in FACTS.items():
                value = next(
                    (variables[source] for source in sources if variables.get(source) is not None), None
                )
                if value is not None:
                    value = walker.walk(value, f"hosts.{name}.{key}", None)
                if value is not None and not (isinstance(value, dict) and FAILED in value):
                    facts[key] = value
            facts.setdefault("address", str.__str__(name))
            hosts[str.__str__(name)] = facts
        return hosts


def with_prices(edge, prices):
    """``edge`` with the prices of a Pulumi stack (``edge_prices``: by cloud and region) where its ``clouds``
    name none. What somebody wrote goes before, be it of the region or of the cloud."""
    clouds = edge.get("clouds", {}) if isinstance(edge, dict) else None
    if not prices or not isinstance(clouds, dict):
        return edge
    clouds = dict(clouds)
    for name, regions in prices.items():
        cloud = clouds.get(name, {})
        own = cloud.get("regions", {}) if isinstance(cloud, dict) else None
        if not isinstance(own, dict) or cloud.get("egress_usd_per_gb") is not None:
            continue
        priced = {
            region: {**price, **own.get(region, {})}
            for region, price in regions.items()
            if isinstance(own.get(region, {}), dict)
        }
        clouds[name] = {**cloud, "regions": {**own, **priced}}
    return {**edge, "clouds": clouds}


class _Walker:
    """Makes values plain: templates rendered, vault values opened, tags read and dropped."""

    def __init__(self, gatherer, templar, variables, encrypted_files):
        self.gatherer = gatherer
        self._templar = templar
        self.variables = variables
        self.encrypted_files = frozenset(encrypted_files)

    def walk(self, value, path, line, key=None):
        """The plain form of ``value``. ``line`` is 'file:line' of what contains it."""
        origin = origin_of(key) if key is not None else None
        origin = origin or origin_of(value)
        if origin is not None:
            here = origin.rpartition(":")[0]
            # What stands on the line of what contains it needs no entry of its own.
            if here != line:
                self.gatherer.origins[path] = origin
                line = here
        if isinstance(value, dict):
            return {
                str(_plain(name)): self.walk(child, f"{path}.{name}", line, name)
                for name, child in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.walk(child, f"{path}[{_label(child, at)}]", line) for at, child in enumerate(value)]
        return self._leaf(value, path)

    def _leaf(self, value, path):
        if isinstance(value, EncryptedString):
            self.gatherer.secret_paths.append(path)
            if self.gatherer.without_secrets:
                return _stand_in(path)
            try:
                return str(value)
            except AnsibleError:
                fix = "give the password with --vault-id or --vault-password-file"
                return self._fail(path, value, "this vault value cannot be opened", fix)
        if isinstance(value, str):
            if _TEMPLATE.search(value):
                return self._rendered(value, path)
            if self.encrypted_files and file_of(value) in self.encrypted_files and not path.endswith(".name"):
                self.gatherer.secret_paths.append(path)
        return _plain(value)

    def _rendered(self, value, path):
        if self._templar is None:
            self._templar = Templar(loader=self.gatherer.loader, variables=self.variables)
        if self.gatherer.without_secrets and self._is_secret(value, 0):
            self.gatherer.secret_paths.append(path)
            return _stand_in(path)
        try:
            result = self._templar.template(value)
            plain = _plain(result)
        except AnsibleError as error:
            words = _first_line(error)
            if self._is_secret(value, 0):
                words = "a variable it needs is missing or cannot be opened"
            return self._fail(
                path, value, f"the template fails: {words}", "check it and the variables it uses"
            )
        if is_vaulted(result) or self._is_secret(value, 0):
            self.gatherer.secret_paths.append(path)
        return plain

    def _is_secret(self, text, depth):
        """True when the template refers to a vault value, directly or through other variables."""
        if depth > _DEEPEST_REFERENCE:
            return False
        for name in set(_IDENTIFIER.findall(text)):
            if name.startswith(_VAULT_PREFIX):
                return True
            if name not in self.variables:
                continue
            value = self.variables[name]
            if isinstance(value, EncryptedString):
                return True
            if isinstance(value, str) and _TEMPLATE.search(value) and self._is_secret(value, depth + 1):
                return True
            if isinstance(value, (dict, list)) and _holds_vault(value):
                return True
        return False

    def _fail(self, path, value, message, fix):
        """Notes a problem. In the document stands a mark, which the model passes over."""
        shown = path[len("edge.") :] if path.startswith("edge.") else path
        origin = self.gatherer.origins.get(path) or origin_of(value)
        self.gatherer.problems.append(problem(shown, message, fix, origin))
        return {FAILED: True}


def _holds_vault(value):
    if isinstance(value, EncryptedString):
        return True
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_vault(child) for child in children)


def _stand_in(path):
    """As xds_agent.rollout.plan.stand_in says it."""
    return f"$secret:{path}"


def _label(item, index):
    name = item.get("name") if isinstance(item, dict) else None
    return str.__str__(name) if isinstance(name, str) else index


def _plain(value):
    """``value`` without tags and of JSON's types only."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(child) for child in value]
    if isinstance(value, EncryptedString):
        return str(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return str(value)


def _first_line(error):
    """What went wrong, without Ansible's context lines."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    return first.partition(" Use -vvv")[0].rstrip(".")
