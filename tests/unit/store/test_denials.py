"""What is denied by hand is kept, replaced, lifted, and over by itself."""

from __future__ import annotations

import datetime as dt

from xds_agent.store import Store, denials
from xds_agent.store.denials import Denial

NOW = dt.datetime(2026, 11, 27, 3, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def _put(store: Store, network: str, until: dt.datetime, reason: str = "") -> None:
    with store.write() as session:
        denials.put(session, Denial(network, until, "ann", reason))


def test_a_denial_lives_until_its_end(store: Store) -> None:
    _put(store, "203.0.113.0/24", NOW + HOUR)
    _put(store, "192.0.2.1/32", NOW + 2 * HOUR)
    with store.read() as session:
        assert [one.network for one in denials.current(session, NOW)] == ["192.0.2.1/32", "203.0.113.0/24"]
        assert [one.network for one in denials.current(session, NOW + HOUR)] == ["192.0.2.1/32"]
        assert not denials.ended(session, NOW)
        assert denials.ended(session, NOW + HOUR)
    with store.write() as session:
        assert denials.forget_ended(session, NOW + HOUR) == ["203.0.113.0/24"]
    with store.read() as session:
        assert not denials.ended(session, NOW + HOUR)


def test_a_second_word_replaces_the_first_and_lifting_ends_it(store: Store) -> None:
    _put(store, "203.0.113.0/24", NOW + HOUR, "first")
    _put(store, "203.0.113.0/24", NOW + 2 * HOUR, "second")
    with store.read() as session:
        [one] = denials.current(session, NOW)
    assert (one.reason, one.until) == ("second", NOW + 2 * HOUR)
    with store.write() as session:
        assert denials.lift(session, "203.0.113.0/24")
        assert not denials.lift(session, "203.0.113.0/24")
