"""An inventory folder to write into, and one with a vault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inventory.planted import PLANTED
from tests.support.site_inventory import SiteInventory


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteInventory:
    monkeypatch.chdir(tmp_path)
    return SiteInventory(tmp_path)


@pytest.fixture
def vaulted(inventory: SiteInventory, tmp_path_factory: pytest.TempPathFactory) -> SiteInventory:
    from ansible.parsing.vault import VaultLib, VaultSecret

    password = tmp_path_factory.mktemp("vault") / "password"
    password.write_text("opensesame")
    vault = VaultLib([("default", VaultSecret(b"opensesame"))])
    inline = vault.encrypt(PLANTED).decode().replace("\n", "\n          ")
    inventory.write(
        {
            "edge/tokens.yml": "services:\n  - name: a\n    endpoints: [{address: 10.0.0.1, port: 80}]\n"
            "    auth:\n      type: token\n      tokens:\n        inline: !vault |\n          "
            + inline
            + '\n        through: "{{ nice_name }}"\n        part: "Bearer {{ plain_name }}-{{ '
            'vault_other }}"\n',
            "group_vars/control/vars.yml": 'nice_name: "{{ vault_token }}"\nplain_name: x\n',
            "group_vars/control/vault.yml": vault.encrypt(
                f"vault_token: {PLANTED}-2\nvault_other: {PLANTED}-3\n"
            ),
            "edge/encrypted.yml": vault.encrypt(f"certificates: [{{name: c, contact: {PLANTED}-4}}]\n"),
        }
    )
    inventory.password = str(password)  # type: ignore[attr-defined]
    return inventory
