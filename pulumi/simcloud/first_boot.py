"""What a machine makes of its metadata at first: cloud-init reads one thing, Google's agent another."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from simcloud.schema import Values
from simcloud.values import first


@dataclass(frozen=True)
class FirstBoot:
    """What stands on a machine once it has booted."""

    logins: Mapping[str, tuple[str, ...]]
    """User -> keys that may log in."""
    host_key: str = ""
    """Private SSH host key that it was given; empty: one of its own making, which nobody has signed."""
    script: str = ""
    """What root runs at every boot."""


def cloud_init(user_data: str, logins: Mapping[str, tuple[str, ...]] | None = None) -> FirstBoot:
    """Of an image with cloud-init; ``logins`` are those that the cloud's own agent makes beside it."""
    said = yaml.safe_load(user_data) if user_data.startswith("#cloud-config\n") else {}
    users = {user["name"]: tuple(user.get("ssh_authorized_keys") or ()) for user in said.get("users") or []}
    return FirstBoot(
        {**(logins or {}), **users}, host_key=(said.get("ssh_keys") or {}).get("ed25519_private", "")
    )


def guest_agent(metadata: Mapping[str, Any]) -> FirstBoot:
    """Of an image with Google's agent alone: `user-data` means nothing to it."""
    logins: dict[str, tuple[str, ...]] = {}
    for line in str(metadata.get("ssh-keys") or "").splitlines():
        user, _, key = line.partition(":")
        logins[user] = (*logins.get(user, ()), key)
    if str(metadata.get("enable-oslogin")).upper() == "TRUE":
        logins = {}
    return FirstBoot(logins, script=str(metadata.get("startup-script") or ""))


def of_aws(inputs: Values) -> FirstBoot:
    """Debian's images have cloud-init."""
    return cloud_init(str(inputs.get("userData") or ""))


def of_gcp(inputs: Values) -> FirstBoot:
    """Debian's images have Google's agent and no cloud-init."""
    return guest_agent(inputs.get("metadata") or {})


def of_azure(inputs: Values) -> FirstBoot:
    """Debian's images have cloud-init; the login with its keys is made from the machine's own profile."""
    data = base64.b64decode(str(first(inputs, "osProfile.customData") or "")).decode()
    keys = first(inputs, "osProfile.linuxConfiguration.ssh.publicKeys") or []
    user = str(first(inputs, "osProfile.adminUsername") or "")
    return cloud_init(data, {user: tuple(str(key["keyData"]) for key in keys)})


OF_CLOUD = {"aws": of_aws, "gcp": of_gcp, "azure-native": of_azure}
