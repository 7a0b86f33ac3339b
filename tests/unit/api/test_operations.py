"""What control keeps fresh by itself: certificates, revocation list, authority files, maintenance windows."""

import copy
import datetime as dt

import pytest

from tests.support.fake_fleet import FakeFleet, Refuse
from tests.support.site_pki import SitePki, key_pem
from tests.support.small_site import DOCUMENT
from xds_agent.api.operations import AGAIN, Operations
from xds_agent.pki.revocation import lists_of
from xds_agent.rollout import release as module
from xds_agent.rollout.change import Change
from xds_agent.rollout.material import SiteCa
from xds_agent.rollout.pipeline import Pipeline
from xds_agent.rollout.publisher import Publisher
from xds_agent.snapshot.resource import SECRET
from xds_agent.store import Store, revisions

DAY = dt.timedelta(days=1)


class Site:
    """A pipeline with a clock that the test turns, and one node."""

    def __init__(self, folder) -> None:
        self.at = dt.datetime.now(dt.UTC)
        self.pki = SitePki(folder / "pki")
        at = self.pki.folder
        (at / "issuing.crt").write_bytes(self.pki.issuer.pem)
        (at / "issuing.key").write_bytes(key_pem(self.pki.issuer.key))
        self.store = Store.open(f"sqlite:///{folder}/control.db", folder / "secret.key")
        ca = SiteCa(at / "ca.crt", at / "crl.pem", at / "issuing.crt", at / "issuing.key")
        self.pipeline = Pipeline(self.store, Publisher(), ca, now=lambda: self.at)
        self.fleet = FakeFleet(self.pipeline.publisher)
        self.operations = Operations(self.pipeline)

    async def apply(self, document):
        await self.pipeline.apply(Change(document=document, author="ada", timeout_s=5.0))

    def reasons(self):
        with self.store.read() as session:
            return [r.reason for r in reversed(revisions.history(session)) if r.kind == "operational"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NEWCOMER_GRACE_S", 0.0)
    made = Site(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def document():
    return copy.deepcopy(DOCUMENT)


async def test_nothing_due_does_nothing(site, document):
    await site.operations.look()
    await site.apply(document)
    await site.operations.look()
    assert site.reasons() == []


async def test_certificates_are_renewed_at_two_thirds_of_their_life(site, document):
    node = site.fleet.connect("edge1")
    await site.apply(document)
    held = node.holds
    site.at += 19 * DAY
    site.pki.write_crl(now=site.at)
    await site.operations.look()
    assert not any("certificate" in reason for reason in site.reasons())
    site.at += 2 * DAY
    await site.operations.look()
    assert any("certificate shop: two thirds of its life are over" in reason for reason in site.reasons())
    assert node.holds != held
    count = len(site.reasons())
    await site.operations.look()
    assert len(site.reasons()) == count


async def test_the_revocation_list_is_signed_again_and_reaches_who_verifies_with_it(site, document):
    document["edge"]["domains"][0] |= {"client_auth": "required", "client_ca": "site-ca"}
    node = site.fleet.connect("edge1")
    await site.apply(document)
    held = node.holds
    site.at += 5 * DAY
    await site.operations.look()
    crl, _ = lists_of((site.pki.folder / "crl.pem").read_bytes())
    assert crl.next_update_utc > site.at + 6 * DAY
    assert site.reasons() == ["the site's authority or its revocation list changed"]
    assert node.holds != held


async def test_a_maintenance_window_ends_by_itself(site, document):
    # The time is written in minutes: it lies behind the clock by less than one.
    until = (site.at + 2 * DAY).replace(second=0, microsecond=0)
    document["edge"]["maintenance"] = [
        {"cloud": "gcp", "until": f"{until:%Y-%m-%dT%H:%MZ}", "reason": "CHG-812"}
    ]
    node = site.fleet.connect("edge1")
    await site.apply(document)
    held = node.holds
    await site.operations.look()
    assert site.reasons() == []
    site.at = until + dt.timedelta(minutes=1)
    await site.operations.look()
    assert "a maintenance window began or ended" in site.reasons()
    assert node.holds != held


async def test_trouble_is_logged_once_and_tried_again(site, document, caplog):
    await site.apply(document)
    key = site.pki.folder / "issuing.key"
    text = key.read_bytes()
    site.at += 21 * DAY
    key.write_text("gone")
    await site.operations.look()
    await site.operations.look()
    assert len([r for r in caplog.records if r.name == "xds_agent.api.operations"]) == 1
    key.write_bytes(text)
    await site.operations.look()
    assert any("certificate shop" in reason for reason in site.reasons())


async def test_an_authority_that_cannot_be_read_is_told_and_does_not_end_control(site, document, caplog):
    site.fleet.connect("edge1")
    await site.apply(document)
    ca = site.pki.folder / "ca.crt"
    away = ca.rename(ca.with_name("ca.away"))
    await site.operations.look()
    assert "cannot read its own CA" in caplog.text
    away.rename(ca)
    await site.operations.look()
    assert site.pipeline.live.number >= 1


async def test_one_proxy_that_refuses_keeps_no_renewal_from_the_others(site, document):
    """Stored, the renewed certificate was not due any more: nobody tried again until the old one ended."""
    good, bad = site.fleet.connect("edge1"), site.fleet.connect("edge2")
    await site.apply(document)
    held = bad.holds
    bad.decide = lambda complete: None if complete.snapshot.revision == held else Refuse("disk full", SECRET)
    site.at += 61 * DAY
    await site.operations.look()
    assert (good.holds, site.pipeline.live.number) == (held, 1)
    await site.operations.look()
    assert good.holds == held, "not every few seconds"
    site.at += AGAIN
    await site.operations.look()
    assert good.holds == site.pipeline.live.snapshots["edge1"].revision != held
    assert "edge2" in site.pipeline.left_out
    bad.decide = lambda complete: None


async def test_what_the_only_proxy_refuses_is_not_live(site, document):
    bad = site.fleet.connect("edge1")
    await site.apply(document)
    held = bad.holds
    bad.decide = lambda complete: None if complete.snapshot.revision == held else Refuse("disk full", SECRET)
    for _ in range(3):
        site.at += 61 * DAY
        await site.operations.look()
    assert (bad.holds, site.pipeline.live.number) == (held, 1)
