"""A PKI, and control's server around a core that only records."""

from __future__ import annotations

import pytest

from tests.support.site_pki import SitePki


@pytest.fixture(scope="module")
def shared_pki(tmp_path_factory) -> SitePki:
    """One PKI for tests that change nothing in it."""
    return SitePki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def pki(tmp_path) -> SitePki:
    return SitePki(tmp_path / "pki")
