"""What a socket of some tenants is shown."""

import copy

import pytest

from tests.support.site_pki import SitePki, key_pem
from tests.support.small_site import DOCUMENT
from xds_agent.api.views import View
from xds_agent.rollout.change import Change, Conflict, NotEntitled
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.store import Store


@pytest.fixture
async def pipeline(tmp_path):
    pki = SitePki(tmp_path / "pki")
    at = pki.folder
    (at / "issuing.crt").write_bytes(pki.issuer.pem)
    (at / "issuing.key").write_bytes(key_pem(pki.issuer.key))
    store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    ca = SiteCa(at / "ca.crt", at / "crl.pem", at / "issuing.crt", at / "issuing.key")
    yield Pipeline(store, Publisher(), ca)
    store.close()


async def test_what_a_shared_proxy_holds_is_not_for_one_tenant(pipeline):
    """Differences name endpoints of whoever they are of."""
    await pipeline.apply(Change(document=copy.deepcopy(DOCUMENT), author="ada", timeout_s=0.1))
    with pytest.raises(NotEntitled, match="serves other tenants too"):
        await View(pipeline, "control1", frozenset({"retail"})).diff("edge1")
    for tenants in (None, frozenset({"retail", "bank"})):
        with pytest.raises(Conflict, match="offline"):
            await View(pipeline, "control1", tenants).diff("edge1")
