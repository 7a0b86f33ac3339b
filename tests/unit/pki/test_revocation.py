"""The revocation list: what was put on it stays on it."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

from tests.support.site_pki import SitePki
from xds_agent.pki.revocation import refresh, revoked_serials


def test_whoever_signs_at_the_same_moment_loses_nobodys_revocation(tmp_path):
    """Control signs a list that ages in one thread, and what somebody revokes in another."""
    pki = SitePki(tmp_path)
    path, now = tmp_path / "list.pem", dt.datetime.now(dt.UTC)
    serials = range(1, 41)
    with ThreadPoolExecutor(8) as threads:
        signed = threads.map(
            lambda serial: refresh(path, pki.issuer, now=now, revoke=frozenset({serial})), serials
        )
        assert all(signed)
    assert revoked_serials(path.read_bytes()).keys() == set(serials)
