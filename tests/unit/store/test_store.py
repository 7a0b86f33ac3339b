"""The store on real SQLite files."""

import datetime as dt
import re
import stat
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text

from xds_agent.store import Sealer, SealError, Store, StoreError, audit, nodes, revisions, secrets
from xds_agent.store.database import open_database
from xds_agent.store.revisions import Draft, content_id
from xds_agent.store.schema import AuditRow, Base

NOW = dt.datetime(2026, 11, 25, 3, 0, tzinfo=dt.UTC)


def draft(reason: str = "first", **edge: object) -> Draft:
    document = {"schema": 1, "edge": edge, "hosts": {}, "origins": {"edge": "edge.yml:1"}}
    return Draft(document=document, fingerprints={}, author="ada", reason=reason)


def test_migrations_make_exactly_what_the_models_say(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_sqlite_is_durable(store):
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 1000


def test_a_second_start_migrates_nothing_and_reads_the_same(tmp_path, store):
    with store.write() as session:
        number = revisions.add(session, draft(services=[]), now=NOW)
        revisions.finish(session, number, "live")
    again = Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")
    with again.read() as session:
        good = revisions.last_good(session)
    again.close()
    assert good is not None
    assert (good.number, good.author, good.created) == (number, "ada", NOW)
    assert good.document["origins"] == {"edge": "edge.yml:1"}


def test_an_older_version_uses_a_newer_ones_database_unless_it_was_told_not_to(tmp_path, store):
    url, key = f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key"
    with store.write() as session:
        number = revisions.add(session, draft(services=[]), now=NOW)
        revisions.finish(session, number, "live")
        session.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    again = Store.open(url, key)
    with again.write() as session:
        assert revisions.last_good(session).number == number
        # What a migration writes that takes away what older versions read.
        session.execute(text("INSERT INTO shared VALUES ('schema_needs', 998, X'')"))
    again.close()
    with pytest.raises(StoreError, match=r"schema 0999, this one knows 0\d+\).* restore a backup"):
        Store.open(url, key)


def test_last_good_is_the_newest_live_one(store):
    with store.write() as session:
        first, second, third = (revisions.add(session, draft(n), now=NOW) for n in "abc")
        revisions.finish(session, first, "live")
        revisions.finish(session, second, "refused", "no")
    with store.write() as session:
        assert revisions.interrupt_pending(session) == [third]
    with store.read() as session:
        good = revisions.last_good(session)
        outcomes = [r.outcome for r in revisions.history(session)]
    assert good is not None and good.number == first
    assert outcomes == ["interrupted", "refused", "live"]


def test_an_outcome_is_said_once(store):
    with store.write() as session:
        number = revisions.add(session, draft(), now=NOW)
        revisions.finish(session, number, "live")
        revisions.finish(session, number, "refused", "late")
    with store.read() as session:
        stored = revisions.get(session, number)
    assert stored is not None and (stored.outcome, stored.words) == ("live", "")


def test_an_exception_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.write() as session:
        revisions.add(session, draft(), now=NOW)
        audit.append(session, actor="a", action="apply", subject="1", detail={}, now=NOW)
        raise RuntimeError
    with store.read() as session:
        assert revisions.history(session) == []
        assert audit.newest(session) == []


def test_content_id_ignores_lines_but_not_values_or_secrets():
    one = {"schema": 1, "edge": {"a": 1}, "hosts": {}, "origins": {"edge.a": "x.yml:1"}}
    moved = {**one, "origins": {"edge.a": "x.yml:9"}}
    changed = {**one, "edge": {"a": 2}}
    assert content_id(one, {}) == content_id(moved, {})
    assert content_id(one, {}) != content_id(changed, {})
    assert content_id(one, {"ref": "aa"}) != content_id(one, {"ref": "bb"})


def test_writers_wait_in_line(store):
    """Eight threads, twenty rows each: none fails, the chain has every row once."""
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for number in range(20):
                with store.write() as session:
                    audit.append(session, actor=name, action="x", subject=str(number), detail={}, now=NOW)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with store.read() as session:
        assert audit.verify_chain(session) is None
        assert audit.newest(session, 1)[0].seq == 160


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_audit_refuses_changes(store, statement):
    with store.write() as session:
        audit.append(session, actor="ada", action="apply", subject="1", detail={"a": 1}, now=NOW)
    with pytest.raises(StoreError, match="append-only"), store.write() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "row 2 .* was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("UPDATE audit SET previous = hash WHERE seq = 3", "row 3 .* was changed"),
    ],
)
def test_a_forged_past_shows(store, forge, words):
    """Someone with the file in hand can drop the triggers; the chain still tells."""
    with store.write() as session:
        for number in range(4):
            audit.append(session, actor="ada", action="apply", subject=str(number), detail={}, now=NOW)
    with store.read() as session:
        assert audit.verify_chain(session) is None
    with store.write() as session:
        session.execute(text("DROP TRIGGER audit_no_update"))
        session.execute(text("DROP TRIGGER audit_no_delete"))
        session.execute(text(forge))
    with store.read() as session:
        verdict = audit.verify_chain(session)
    assert verdict is not None
    assert re.search(words, verdict)


def test_fields_cannot_trade_characters():
    rows = [
        AuditRow(seq=1, at="t", actor=actor, action=action, subject="", detail="{}", previous="0", hash="")
        for actor, action in [("ab", "c"), ("a", "bc")]
    ]
    assert audit.row_hash(rows[0]) != audit.row_hash(rows[1])


def test_secrets_are_nowhere_in_the_files(store, tmp_path):
    planted = "s3cr3t-planted-9f2c"
    with store.write() as session:
        secrets.keep(session, store.sealer, {"certificates[shop].key": planted}, now=NOW)
    with store.read() as session:
        prints = secrets.fingerprints(store.sealer, {"certificates[shop].key": planted})
        assert secrets.reveal(session, store.sealer, prints) == {"certificates[shop].key": planted}
    for file in tmp_path.iterdir():
        assert planted.encode() not in file.read_bytes(), file.name


def test_a_secret_of_an_old_revision_stays(store):
    old = secrets.fingerprints(store.sealer, {"r": "one"})
    for value in ("one", "two", "two"):
        with store.write() as session:
            secrets.keep(session, store.sealer, {"r": value}, now=NOW)
    with store.read() as session:
        assert secrets.reveal(session, store.sealer, old) == {"r": "one"}
        with pytest.raises(KeyError, match="gone"):
            secrets.reveal(session, store.sealer, {"gone": "ff"})


def test_the_key_is_private_and_refused_when_not(tmp_path):
    path = tmp_path / "secret.key"
    Sealer.from_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(SealError, match="chmod 0600"):
        Sealer.from_file(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SealError, match="holds 5 bytes"):
        Sealer.from_file(path)


def test_a_ciphertext_opens_only_where_it_belongs():
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(b"v", belongs_to="secret a")
    assert sealer.open(sealed, belongs_to="secret a") == b"v"
    with pytest.raises(SealError):
        sealer.open(sealed, belongs_to="secret b")
    with pytest.raises(SealError, match=r"secret\.key"):
        Sealer(b"q" * 32).open(sealed, belongs_to="secret a")


def test_nodes_keep_what_is_known(store):
    with store.write() as session:
        nodes.note(session, "edge-aws1", facts={"kernel": "6.1"}, last_seen=NOW)
        nodes.note(session, "edge-aws1", acknowledged="abc")
    with store.read() as session:
        known = nodes.all_nodes(session)["edge-aws1"]
    assert known["facts"] == {"kernel": "6.1"}
    assert known["acknowledged"] == "abc"
    assert known["last_seen"] == "2026-11-25T03:00:00+00:00"


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite:////proc/nowhere/control.db"])
def test_a_database_that_cannot_be_is_one_sentence(url):
    with pytest.raises((StoreError, OSError)):
        open_database(url)


def test_damaged_file_is_one_sentence(tmp_path):
    (tmp_path / "control.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(f"sqlite:///{tmp_path}/control.db", tmp_path / "secret.key")


def test_a_postgresql_that_is_cut_off_is_noticed_long_before_the_kernel_would():
    """Else a leader whose lock is gone would believe for a quarter of an hour that it leads."""
    given = []

    class Enough(Exception):
        pass

    def connecting(_dialect, _record, _arguments, parameters):
        given.append(parameters)
        raise Enough

    for more in ("", "?tcp_user_timeout=3000"):
        engine = open_database(f"postgresql://marchproxy@db.internal/marchproxy{more}", migrated=False)
        event.listen(engine, "do_connect", connecting)
        with pytest.raises(Enough):
            engine.connect()
        engine.dispose()
    assert given[0]["tcp_user_timeout"] == 10_000
    assert given[0]["connect_timeout"] == 10
    assert given[1]["tcp_user_timeout"] == "3000"
