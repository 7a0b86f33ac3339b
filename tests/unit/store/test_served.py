"""What proxies hold, kept over a restart: whole, sealed, and written by differences."""

import pytest
from sqlalchemy import delete, func, select

from tests.support.resources import cluster, endpoints, secret
from xds_agent.snapshot.resource import Snapshot
from xds_agent.store import served
from xds_agent.store.schema import ServedResourceRow

KEY = b"BEGIN PRIVATE KEY of shop"


def keep(store, number, snapshots, compiler="1"):
    with store.write() as session:
        served.keep(session, store.sealer, number, compiler, snapshots)


def load(store):
    with store.read() as session:
        return served.load(session, store.sealer)


def rows(store):
    with store.read() as session:
        return session.scalar(select(func.count()).select_from(ServedResourceRow))


def test_what_proxies_hold_comes_back_as_the_same_bytes_shared_as_before(store):
    one = Snapshot.of([cluster("a"), endpoints("a", 80), secret("shop", b"a chain", KEY)])
    other = Snapshot.of([cluster("a"), endpoints("a", 81)])
    keep(store, 7, {"edge1": one, "edge2": one, "edge3": other})
    found = load(store)
    assert found == {"edge1": one, "edge2": one, "edge3": other}
    assert found["edge1"] is found["edge2"]
    assert rows(store) == 4
    with store.read() as session:
        assert served.about(session) == served.About(7, "1")
    # Only what differs is written, and what nobody holds any more goes.
    keep(store, 8, {"edge1": other})
    assert (load(store), rows(store)) == ({"edge1": other}, 2)


def test_no_key_is_readable_in_the_files(store, tmp_path):
    keep(store, 1, {"edge1": Snapshot.of([secret("shop", b"a chain", KEY)])})
    store.close()
    for file in tmp_path.glob("control.db*"):
        assert KEY not in file.read_bytes()


def test_a_refusal_is_remembered_until_other_bytes_are_held(store):
    keep(store, 1, {}, compiler="1")
    with store.write() as session:
        served.note_refused(session, "2", "no such field")
    keep(store, 2, {}, compiler="1")
    with store.read() as session:
        assert served.about(session) == served.About(2, "1", "2", "no such field")
    keep(store, 3, {}, compiler="2")
    with store.read() as session:
        assert served.about(session) == served.About(3, "2")


def test_a_lost_row_is_an_error_and_not_a_smaller_set(store):
    keep(store, 1, {"edge1": Snapshot.of([cluster("a")])})
    with store.write() as session:
        session.execute(delete(ServedResourceRow))
    with pytest.raises(ValueError, match="is missing"):
        load(store)
