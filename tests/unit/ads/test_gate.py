"""The gate after admission: what closes streams that are open."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.site_pki import TRUST_DOMAIN
from xds_agent.ads.gate import Gate
from xds_agent.ads.identity import peer_of
from xds_agent.ads.revocations import Revocations


class Call:
    """An RPC of the host whose certificate this is."""

    def __init__(self, pem):
        self._pem = pem

    def auth_context(self):
        return {"x509_pem_cert": [self._pem]}

    def peer(self):
        return "ipv4:192.0.2.1:4000"

    async def abort(self, status, words):
        raise asyncio.CancelledError(words)


@pytest.fixture
def gate(pki):
    return Gate(TRUST_DOMAIN, Revocations(pki.folder / "crl.pem"))


async def test_a_list_first_read_by_an_admission_still_closes_open_streams(pki, gate):
    bad, good = (pki.host(name) for name in ("edge1", "edge2"))
    closed = []
    peer = await gate.admit(Call(bad.certificate.read_bytes()))
    with gate.watching(peer, "ipv4:192.0.2.1:4000", closed.append):
        pki.revoke(bad.serial)
        # Somebody comes in between the change of the file and the next look, and reads the new list.
        await gate.admit(Call(good.certificate.read_bytes()))
        gate.look()
        gate.look()
    assert len(closed) == 1
    assert "revoked" in closed[0]


async def test_a_good_certificate_is_left_alone(pki, gate):
    files = pki.host("edge1")
    closed = []
    with gate.watching(peer_of(files.certificate.read_bytes(), TRUST_DOMAIN), "x", closed.append):
        pki.revoke(pki.host("edge2").serial)
        gate.look()
    assert closed == []
