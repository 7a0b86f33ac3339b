"""What one cloud refuses and another takes: said before the first of them has made anything."""

from edge_iac.site.model import Site
from edge_iac.site.places import Add, regions_of

AZURE_SMALLEST_DISK_GB = 30
"""Of its Debian images: a disk is at least as large as what it is made from."""
# Microsoft.Compute, osProfile.adminUsername.
_AZURE_LOGINS = frozenset(
    {"a", "actuser", "adm", "admin", "admin1", "admin2", "administrator", "aspnet", "backup", "console"}
    | {"david", "guest", "john", "owner", "root", "server", "sql", "support", "sys"}
    | {"test", "test1", "test2", "test3", "user", "user1", "user2", "user3", "user4", "user5"}
)
_AZURE_KEYS = ("ssh-ed25519 ", "ssh-rsa ")
# Tags that the programs write; Azure does not tell their case apart.
_OWN_TAGS = frozenset({"name", "edge-site", "edge-host", "edge-role", "edge-groups"})


def check_refused(site: Site, add: Add) -> None:
    """Calls ``add`` for everything that a cloud of the site is known to refuse."""
    named = site.clouds.named()
    for key in site.tags:
        if key in _OWN_TAGS:
            add(f"tags.{key}", "is a tag that the program writes itself", "choose another key")
        elif "gcp" in named and not key[0].isalpha():
            fix = "begin the key with a letter"
            add(f"tags.{key}", f"'{key}' is no label of Google Cloud: it begins with no letter", fix)
    if "azure" not in named:
        return
    if site.ssh.user in _AZURE_LOGINS:
        fix = "choose another, such as edge"
        add("ssh.user", f"Azure makes no login '{site.ssh.user}'", fix)
    for index, key in enumerate(site.ssh.authorized_keys):
        if not key.startswith(_AZURE_KEYS):
            fix = "give an Ed25519 or RSA key"
            add(f"ssh.authorized_keys[{index}]", f"Azure takes no key of type {key.split()[0]}", fix)
    for cloud, _, one, path in regions_of(site):
        for name, pool in one.hosts.items():
            if cloud == "azure" and pool.disk_gb < AZURE_SMALLEST_DISK_GB:
                words = (
                    f"{pool.disk_gb} GB is less than Azure's image of Debian has ({AZURE_SMALLEST_DISK_GB})"
                )
                add(f"{path}.hosts.{name}.disk_gb", words, f"use at least {AZURE_SMALLEST_DISK_GB}")
