"""Sites made from short documents, and a pipeline with a store of its own."""

import copy
import datetime as dt

import pytest

from tests.support.fake_fleet import FakeFleet
from tests.support.site_pki import SitePki, key_pem
from tests.support.small_site import DOCUMENT
from xds_agent.model import load_site
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.store import Store


@pytest.fixture
def document():
    return copy.deepcopy(DOCUMENT)


@pytest.fixture
def site_of():
    """site_of(change) is the site after `change(document)`; site_of() the one before."""

    def make(change=lambda document: None):
        document = copy.deepcopy(DOCUMENT)
        change(document)
        return load_site(document)

    return make


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    pki = SitePki(tmp_path_factory.mktemp("pki"))
    (pki.folder / "issuing.crt").write_bytes(pki.issuer.pem)
    (pki.folder / "issuing.key").write_bytes(key_pem(pki.issuer.key))
    return pki


def site_ca(pki: SitePki) -> SiteCa:
    named = ("ca.crt", "crl.pem", "issuing.crt", "issuing.key")
    return SiteCa(*(pki.folder / name for name in named))


@pytest.fixture
async def pipeline(tmp_path, pki):
    ca = site_ca(pki)
    store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    yield Pipeline(store, Publisher(), ca)
    store.close()


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = dt.datetime.now(dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def control(tmp_path, pki, clock):
    """control() starts a control host on the same database, as after a restart."""
    stores = []
    ca = site_ca(pki)

    def start() -> Pipeline:
        store = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
        stores.append(store)
        return Pipeline(store, Publisher(), ca, now=clock)

    yield start
    for store in stores:
        store.close()


@pytest.fixture
async def fleet(pipeline):
    return FakeFleet(pipeline.publisher)
