"""What a stack of the cloud programs puts out, as the contract `edge.inventory/v1` says."""

from __future__ import annotations

from typing import Any

# How the engine marks a secret inside its state.
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:x"}


def host(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"edge-aws-us-east-1-{number}", "id": f"i-{number:017x}", "cloud": "aws",
        "region": "us-east-1", "zone": "us-east-1a", "groups": ["ingress", "l4"],
        "address": f"198.18.{number // 250}.{number % 250 + 1}",
        "private_address": f"10.201.{number // 250}.{number % 250 + 1}", "user": "admin",
        "nic": {"driver": "ena", "queues": 8, "mtu": 9001, "xdp": "native"}, "labels": {"team": "edge"},
        **more,
    }  # fmt: skip


def document(*hosts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "schema": "edge.inventory/v1", "site": "prod", "ssh_ca": "ssh-ed25519 AAAAKEY site",
        "vips": [{"name": "edge", "cloud": "aws", "region": "us-east-1", "address": "198.18.9.9"}],
        "hosts": list(hosts) or [host(1), host(2)], **more,
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Without the mark that ansible-inventory puts on strings which are no templates."""
    if isinstance(value, dict):
        if value.keys() == {"__ansible_unsafe"}:
            return value["__ansible_unsafe"]
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value
