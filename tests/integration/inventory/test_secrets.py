"""Vault values of an inventory: opened, split off, shown nowhere."""

from __future__ import annotations

import json

from tests.integration.inventory.planted import PLANTED
from tests.support.site_inventory import SiteInventory
from xds_agent.model import join_secrets, load_site, split_secrets


def test_vault_values_are_opened_split_off_and_flagged(vaulted: SiteInventory) -> None:
    document = vaulted.document(vault_password_files=[vaulted.password])  # type: ignore[attr-defined]
    assert document["problems"] == []
    assert document["secret_paths"] == [
        "edge.certificates[c].contact",
        "edge.services[a].auth.tokens.inline",
        "edge.services[a].auth.tokens.part",
        "edge.services[a].auth.tokens.through",
    ]
    stripped, secrets = split_secrets(document)
    assert PLANTED not in json.dumps(stripped)
    assert secrets == {
        "edge.services[a].auth.tokens.inline": PLANTED,
        "edge.services[a].auth.tokens.through": f"{PLANTED}-2",
        "edge.services[a].auth.tokens.part": f"Bearer x-{PLANTED}-3",
        "edge.certificates[c].contact": f"{PLANTED}-4",
    }
    assert join_secrets(stripped, secrets) == document


def test_no_error_and_no_repr_shows_a_secret(vaulted: SiteInventory) -> None:
    password = [vaulted.password]  # type: ignore[attr-defined]
    report = "\n".join(vaulted.report(vault_password_files=password))
    assert "contact: has no meaning" in report
    assert PLANTED not in report
    document = vaulted.document(vault_password_files=password)
    document["edge"].pop("certificates")
    site = load_site(document)
    assert PLANTED not in repr(site)
    token = site.edge.service_by_name["a"].auth.tokens["inline"]
    assert token.get_secret_value() == PLANTED


def test_without_the_password_each_place_is_named(vaulted: SiteInventory) -> None:
    for name in ("edge/encrypted.yml", "group_vars/control/vault.yml"):
        (vaulted.folder / name).unlink()
    report = vaulted.report()
    assert (
        "services[a].auth.tokens.inline: this vault value cannot be opened; give the password with "
        "--vault-id or "
        "--vault-password-file; edge/tokens.yml:7" in report
    )


def test_a_review_opens_no_vault_and_differs_in_nothing_but_values(vaulted: SiteInventory) -> None:
    """The same document, with the same references in it, whether the password is known or not."""
    (vaulted.folder / "edge/encrypted.yml").unlink()
    known = vaulted.document(vault_password_files=[vaulted.password])  # type: ignore[attr-defined]
    unknown = vaulted.document(without_secrets=True)
    assert unknown["problems"] == []
    assert split_secrets(unknown)[0] == split_secrets(known)[0]
    assert PLANTED not in json.dumps(unknown)
