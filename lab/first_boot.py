"""What a cloud's machine reads when it boots, in the hosts' image: cloud-init, and Google's guest agent.

Both, and sshd, are Debian's own, and sleep in the image: hosts of ``script/lab up`` boot as if none were
there. What wakes is for the machine's cloud to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.commands import run

SSHD = ("ssh.service",)
AGENT = ("google-guest-agent.service", "google-startup-scripts.service", "google-shutdown-scripts.service")
DISABLED = "etc/cloud/cloud-init.disabled"
SEED = "var/lib/cloud/seed/nocloud"
# The data are the cloud's; network and disks of a container are none of cloud-init's business.
SETTINGS = """\
datasource_list: [NoCloud]
network: {config: disabled}
growpart: {mode: "off"}
resize_rootfs: false
locale: false
"""


def asleep(root: Path) -> None:
    """Make of a root file system one whose hosts read nothing, and have no SSH host key in common."""
    run(["chroot", root, "systemctl", "--quiet", "disable", *SSHD, *AGENT])
    (root / DISABLED).touch()
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def of(machine: Mapping[str, Any]) -> Callable[[Path], None]:
    """What becomes of a host's root before its first boot, so that it reads what the cloud holds for it."""

    def cloud_init(root: Path) -> None:
        (root / DISABLED).unlink(missing_ok=True)
        (root / "etc/cloud/cloud.cfg.d/90-lab.cfg").write_text(SETTINGS)
        seed = root / SEED
        seed.mkdir(mode=0o700, parents=True)
        (seed / "user-data").write_text(str(machine.get("user_data") or ""))
        (seed / "meta-data").write_text(f"instance-id: {machine['id']}\nlocal-hostname: {machine['name']}\n")
        run(["chroot", root, "systemctl", "--quiet", "enable", *SSHD])

    def guest_agent(root: Path) -> None:
        run(["chroot", root, "systemctl", "--quiet", "enable", *SSHD, *AGENT])

    return guest_agent if machine["cloud"] == "gcp" else cloud_init
