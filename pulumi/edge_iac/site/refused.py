"""What one cloud refuses and another takes: said before the first of them has made anything."""

import json
import re
from collections.abc import Iterable, Mapping

from edge_iac.site.front import front_ports, is_fronted
from edge_iac.site.model import CloudName, RegionSite, Site
from edge_iac.site.names import CLOUD_WORDS, groups_value
from edge_iac.site.places import Add, regions_of

AZURE_SMALLEST_DISK_GB = 30
"""Of its Debian images: a disk is at least as large as what it is made from."""
AZURE_LARGEST_DISK_GB = 4095
"""Of a disk to boot from."""
# Microsoft.Compute, osProfile.adminUsername.
_AZURE_LOGINS = frozenset(
    {"a", "actuser", "adm", "admin", "admin1", "admin2", "administrator", "aspnet", "backup", "console"}
    | {"david", "guest", "john", "owner", "root", "server", "sql", "support", "sys"}
    | {"test", "test1", "test2", "test3", "user", "user1", "user2", "user3", "user4", "user5"}
)
_AZURE_KEYS = ("ssh-ed25519 ", "ssh-rsa ")
AZURE_LAST_PORT = 65534
"""Of a load balancer's frontend."""
_AZURE_TAGS = ("microsoft", "azure", "windows")
# Anywhere in a name, and at its beginning.
_AZURE_WORDS, _AZURE_FIRST_WORD = ("microsoft", "windows"), "login"
# Tags that the programs write; Azure does not tell their case apart.
_OWN_TAGS = frozenset({"name", "edge-site", "edge-host", "edge-role", "edge-groups"})

MOST_TAGS: Mapping[CloudName, int] = {"aws": 45, "gcp": 59, "azure": 45}
"""Tags that a site may have: what a cloud takes of one thing, less the five that program and SDK add."""
LONGEST_VALUE: Mapping[CloudName, int] = {"aws": 256, "gcp": 63, "azure": 256}
"""Characters of the value of a tag."""
AWS_LOGINS_BYTES = 13_000
"""Of authorized keys: user data holds 16384 bytes, with host key and certificate in them."""
_KEY_MARGIN = 7
"""Bytes around each key there: a line, indented, and a comma."""


def check_refused(site: Site, add: Add) -> None:
    """Calls ``add`` for everything that a cloud of the site is known to refuse."""
    named = site.clouds.named()
    for key in site.tags:
        if key in _OWN_TAGS:
            add(f"tags.{key}", "is a tag that the program writes itself", "choose another key")
        elif "gcp" in named and not key[0].isalpha():
            fix = "begin the key with a letter"
            add(f"tags.{key}", f"'{key}' is no label of Google Cloud: it begins with no letter", fix)
    _check_tags(site, add)
    _check_groups(site, add)
    if site.clouds.aws is not None:
        _check_aws(site, add)
    if "azure" in named:
        _check_azure(site, add)


def _check_tags(site: Site, add: Add) -> None:
    most = min((MOST_TAGS[cloud] for cloud in site.clouds.named()), default=len(site.tags))
    if len(site.tags) > most:
        words = f"{len(site.tags)} are more than the site's clouds take beside the program's own ({most})"
        add("tags", words, "leave some out")


def _check_groups(site: Site, add: Add) -> None:
    """All groups of a host are the value of one tag."""
    for cloud, _, one, path in regions_of(site):
        limit = LONGEST_VALUE[cloud]
        for name, pool in one.hosts.items():
            value = groups_value(cloud, pool.role, pool.groups)
            if len(value) > limit:
                takes = f"{CLOUD_WORDS[cloud]} takes {limit} as the value of a tag"
                words = f"'{value}' has {len(value)} characters, {takes}"
                add(f"{path}.hosts.{name}.groups", words, "use fewer groups, or shorter names")


def _check_aws(site: Site, add: Add) -> None:
    """What AWS keeps for itself of names that begin with the site's, and what user data hold."""
    fronted = any(
        cloud == "aws" and one.load_balancer and any(pool.role == "ingress" for pool in one.hosts.values())
        for cloud, _, one, _ in regions_of(site)
    )
    kept = {"sg": "security group", **({"internal": "load balancer"} if fronted else {})}
    if thing := kept.get(site.name.partition("-")[0]):
        words = f"AWS makes no {thing} whose name begins with '{site.name.partition('-')[0]}-'"
        add("name", words, "choose another name for the site")
    logins = logins_bytes(site.ssh.authorized_keys)
    if logins > AWS_LOGINS_BYTES:
        words = f"{logins} bytes of keys are more than user data of AWS have room for ({AWS_LOGINS_BYTES})"
        add("ssh.authorized_keys", words, "give fewer keys, or Ed25519 ones, which are short")


def _check_azure(site: Site, add: Add) -> None:
    """Logins, keys and disks that Azure does not make, and words that it keeps for itself."""
    for key in site.tags:
        if key.startswith(_AZURE_TAGS):
            words = f"Azure takes no tag that begins with {', '.join(_AZURE_TAGS[:-1])} or {_AZURE_TAGS[-1]}"
            add(f"tags.{key}", words, "choose another key")
    if site.ssh.user in _AZURE_LOGINS:
        fix = "choose another, such as edge"
        add("ssh.user", f"Azure makes no login '{site.ssh.user}'", fix)
    for index, key in enumerate(site.ssh.authorized_keys):
        if not key.startswith(_AZURE_KEYS):
            fix = "give an Ed25519 or RSA key"
            add(f"ssh.authorized_keys[{index}]", f"Azure takes no key of type {key.split()[0]}", fix)
    _check_azure_scopes(site, add)
    if any(port > AZURE_LAST_PORT for _, port in front_ports(site)) and is_fronted(site):
        words = f"load balancers of Azure take ports up to {AZURE_LAST_PORT} from the internet"
        add("reach", words, "open another port, or say load_balancer: false")
    if word := _kept_word(site.name):
        add("name", f"Azure makes no public address with '{word}' in its name", "choose another name")
    for cloud, _, one, path in regions_of(site):
        if cloud == "azure":
            _check_azure_pools(one, path, add)


def _check_azure_scopes(site: Site, add: Add) -> None:
    """What hosts may read is given by its id in the resource manager."""
    said = site.clouds.azure
    if said is None:
        return
    scopes = {f"vaults.{role}": (id_, "Microsoft.KeyVault/vaults/NAME") for role, id_ in said.vaults.items()}
    if said.artifacts_container is not None:
        kind = "Microsoft.Storage/storageAccounts/NAME/blobServices/default/containers/NAME"
        scopes["artifacts_container"] = (said.artifacts_container, kind)
    for key, (id_, kind) in scopes.items():
        form = f"/subscriptions/ID/resourceGroups/GROUP/providers/{kind}"
        pattern = re.sub("ID|GROUP|NAME", "[^/]+", re.escape(form))
        if not re.fullmatch(pattern, id_, re.IGNORECASE):
            add(f"clouds.azure.{key}", f"'{id_}' is no id of that kind", f"write {form}")


def _check_azure_pools(one: RegionSite, path: str, add: Add) -> None:
    for name, pool in one.hosts.items():
        if pool.role in ("ingress", "egress") and (word := _kept_word(name, begins=False)):
            words = f"Azure makes no public address with '{word}' in its name"
            add(f"{path}.hosts.{name}", words, "choose another name for the pool")
        if pool.disk_gb < AZURE_SMALLEST_DISK_GB:
            words = f"{pool.disk_gb} GB is less than Azure's image of Debian has ({AZURE_SMALLEST_DISK_GB})"
            add(f"{path}.hosts.{name}.disk_gb", words, f"use at least {AZURE_SMALLEST_DISK_GB}")
        if pool.disk_gb > AZURE_LARGEST_DISK_GB:
            words = f"{pool.disk_gb} GB is more than a machine of Azure boots from ({AZURE_LARGEST_DISK_GB})"
            add(f"{path}.hosts.{name}.disk_gb", words, f"use at most {AZURE_LARGEST_DISK_GB}")


def _kept_word(name: str, *, begins: bool = True) -> str | None:
    """The word in ``name`` for which Azure refuses what may have a DNS name (ReservedResourceName)."""
    if begins and name.startswith(_AZURE_FIRST_WORD):
        return _AZURE_FIRST_WORD
    return next((word for word in _AZURE_WORDS if word in name), None)


def logins_bytes(keys: Iterable[str]) -> int:
    """What authorized keys take of user data."""
    return sum(len(json.dumps(key)) + _KEY_MARGIN for key in keys)
