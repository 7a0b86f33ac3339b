"""The store on a real PostgreSQL: same schema, same refusals, two control hosts at once."""

import datetime as dt
import threading

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from xds_agent.store import Store, StoreError, audit, revisions, secrets
from xds_agent.store.revisions import Draft
from xds_agent.store.schema import Base

pytestmark = pytest.mark.postgres
NOW = dt.datetime(2026, 11, 25, 3, 0, tzinfo=dt.UTC)


@pytest.fixture
def url(postgres_url):
    """A fresh schema for each test."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_url


@pytest.fixture
def store(url, tmp_path):
    opened = Store.open(url, tmp_path / "secret.key")
    yield opened
    opened.close()


def test_migrations_make_exactly_what_the_models_say(store):
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_revision_survives_a_restart(store, url, tmp_path):
    document = {"schema": 1, "edge": {"services": []}, "hosts": {}, "origins": {"edge": "edge.yml:1"}}
    prints = secrets.fingerprints(store.sealer, {"ref": "word"})
    with store.write() as session:
        draft = Draft(document=document, fingerprints=prints, author="ada", reason="first")
        number = revisions.add(session, draft, now=NOW)
        secrets.keep(session, store.sealer, {"ref": "word"}, now=NOW)
        revisions.finish(session, number, "live")
    again = Store.open(url, tmp_path / "secret.key")
    with again.read() as session:
        good = revisions.last_good(session)
        assert good is not None
        assert (good.number, good.created, good.document["edge"]) == (number, NOW, {"services": []})
        assert secrets.reveal(session, again.sealer, good.fingerprints) == {"ref": "word"}
    again.close()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "TRUNCATE audit"]
)
def test_the_audit_refuses_changes(store, statement):
    with store.write() as session:
        audit.append(session, actor="ada", action="apply", subject="1", detail={}, now=NOW)
    with pytest.raises(StoreError, match="append-only"), store.write() as session:
        session.execute(text(statement))


def test_two_control_hosts_start_and_write_one_chain(url, tmp_path):
    """Both migrate the same empty database at once, then both append."""
    stores: list[Store] = []
    failures: list[BaseException] = []
    key = tmp_path / "secret.key"

    def start_and_write(name: str) -> None:
        try:
            store = Store.open(url, key)
            stores.append(store)
            for number in range(25):
                with store.write() as session:
                    audit.append(session, actor=name, action="x", subject=str(number), detail={}, now=NOW)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start_and_write, args=(name,)) for name in ("control1", "control2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with stores[0].read() as session:
        assert audit.verify_chain(session) is None
        assert audit.newest(session, 1)[0].seq == 50
    for store in stores:
        store.close()


def test_a_server_that_is_away_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="the control database refused"):
        Store.open(f"postgresql://postgres@/postgres?host={tmp_path}", tmp_path / "secret.key")
