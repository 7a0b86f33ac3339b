"""The hosts' root file system: Debian 12 by debootstrap, cached under its recipe's name."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab import first_boot
from lab.commands import attempt, podman, run
from lab.errors import LabError

RELEASE = "bookworm"
# In the hosts from the start: systemd and what Ansible needs to enter them.
INCLUDED = (
    "ca-certificates", "dbus", "iproute2", "iptables", "openssl", "procps", "python3", "python3-apt",
    "python3-venv", "systemd", "systemd-sysv",
)  # fmt: skip
# What images of clouds bring along too; it sleeps until a cloud has something to say (lab/first_boot.py).
AS_IN_CLOUDS = ("cloud-init", "google-guest-agent", "openssh-server", "sudo")
# Fetched but not installed, so that the roles install them as on any host, only quicker.
FETCHED = (
    "chrony", "ethtool", "kmod", "libbpf1", "nftables", "nginx-light", "python3-cryptography",
    "python3-grpcio", "python3-websockets", "wireguard-go", "wireguard-tools",
)  # fmt: skip
# Raise to have every machine build its image anew.
RECIPE_VERSION = "2"


def recipe() -> str:
    """A hash of all that decides what is in the image; names image and cached file."""
    parts = (
        RECIPE_VERSION,
        RELEASE,
        *INCLUDED,
        "as in clouds",
        *AS_IN_CLOUDS,
        "fetched",
        *FETCHED,
        os.environ.get("MARCHPROXY_DEBIAN_MIRROR", ""),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def name() -> str:
    return f"localhost/marchproxy-lab:{recipe()}"


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "marchproxy"


def ensure(said: Callable[[str], None]) -> str:
    """Name of the image, which podman has when this returns: built, or imported from the cached file."""
    image = name()
    if attempt(["podman", "image", "exists", image]).returncode == 0:
        return image
    archive = cache_folder() / f"host-{recipe()}.tar"
    if not _is_whole(archive):
        said("building the hosts' image with debootstrap (about a minute, once per machine)")
        _build(archive)
    said("importing the hosts' image into podman")
    podman("import", "--quiet", archive, image)
    _forget_older(archive)
    return image


def _checksum_file(archive: Path) -> Path:
    return archive.with_suffix(".sha256")


def _is_whole(archive: Path) -> bool:
    expected = _checksum_file(archive)
    if not (archive.exists() and expected.exists()):
        return False
    with archive.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    return found == expected.read_text().split()[0]


def _build(archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    # Beside the cache, not in /tmp, which may be small or forbid device files.
    work = Path(tempfile.mkdtemp(prefix="debootstrap-", dir=archive.parent))
    try:
        root = work / "root"
        mirror = os.environ.get("MARCHPROXY_DEBIAN_MIRROR")
        run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", RELEASE, root,
             *([mirror] if mirror else [])],
            remedy="debootstrap needs a Debian mirror; MARCHPROXY_DEBIAN_MIRROR=URL names another one",
            timeout_s=900,
        )  # fmt: skip
        apt = ["chroot", root, "apt-get", "--yes", "--no-install-recommends"]
        # Not by debootstrap, which does not see through what these depend on.
        run(["env", "DEBIAN_FRONTEND=noninteractive", *apt, "install", *AS_IN_CLOUDS], timeout_s=900)
        run([*apt, "clean"])
        run([*apt, "install", "--download-only", *FETCHED])
        first_boot.asleep(root)
        # Every host makes its own.
        (root / "etc/machine-id").write_text("")
        fresh = work / "host.tar"
        run(["tar", "--directory", root, "--numeric-owner", "--create", "--file", fresh, "."])
        with fresh.open("rb") as content:
            checksum = hashlib.file_digest(content, "sha256").hexdigest()
        fresh.replace(archive)
        _checksum_file(archive).write_text(f"{checksum}  {archive.name}\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not archive.exists():
        raise LabError("the hosts' image was not built")


def _forget_older(archive: Path) -> None:
    """Drop files of earlier recipes: a quarter of a gigabyte each."""
    for old in archive.parent.glob("host-*.tar"):
        if old != archive:
            old.unlink(missing_ok=True)
            _checksum_file(old).unlink(missing_ok=True)
