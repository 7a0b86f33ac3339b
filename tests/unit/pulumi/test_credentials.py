"""No credentials: said before anything is made, with the variable or profile that was looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_iac.credentials import lacking
from edge_iac.site import Site, load_site


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site("example")


def words(site: Site, environment: dict[str, str], home: Path, cloud: str) -> str:
    return "".join(one for one in lacking(site, environment, home) if one.startswith(f"{cloud}: "))


def test_each_cloud_says_what_it_looked_for(site: Site, tmp_path: Path) -> None:
    found = lacking(site, {}, tmp_path)
    assert len(found) == 3
    assert f"no profile 'edge' in {tmp_path}/.aws/credentials" in found[0]
    assert "GOOGLE_APPLICATION_CREDENTIALS" in found[1]
    assert "az login" in found[2]
    assert "ARM_CLIENT_ID" in found[2]


def test_a_profile_is_found_where_aws_keeps_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile edge]\nregion = us-east-1\n")
    assert words(site, {"AWS_CONFIG_FILE": str(tmp_path / "config")}, tmp_path, "aws") == ""


def test_a_named_profile_is_wanted_even_where_keys_are_in_the_environment(site: Site, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert "no profile 'edge'" in words(site, keys, tmp_path, "aws")
    assert words(load_site("lab"), keys, tmp_path, "aws") == ""


def test_a_file_that_is_named_and_not_there_is_said(site: Site, tmp_path: Path) -> None:
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}
    assert "key.json, which is not there" in words(site, environment, tmp_path, "gcp")
    (tmp_path / "key.json").write_text("{}")
    assert words(site, environment, tmp_path, "gcp") == ""


def test_a_service_principal_is_enough_for_azure(site: Site, tmp_path: Path) -> None:
    half = {"ARM_CLIENT_ID": "a", "ARM_TENANT_ID": "b"}
    assert words(site, half, tmp_path, "azure") != ""
    assert words(site, {**half, "ARM_CLIENT_SECRET": "c"}, tmp_path, "azure") == ""


def test_the_look_can_be_left_out(site: Site, tmp_path: Path) -> None:
    assert lacking(site, {"EDGE_SKIP_CREDENTIALS": "1"}, tmp_path) == []
