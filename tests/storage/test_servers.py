"""Stores on database servers: the kit's rules, and what only servers do."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mosaik.cli import main
from mosaik.primitives.entry import EntryKind, seal
from mosaik.primitives.errors import (
    ConfigError,
    StorageFormatTooNew,
    StorageFull,
    StorageLocked,
    StoragePoisoned,
    StorageUnavailable,
)
from mosaik.storage import Capability, StorageURL, open_existing, open_storage
from mosaik.storage.registry import storage_format
from mosaik.testing.storage import Outcome, Rule, rules, try_rule
from mosaik.testing.storage.subject import PEER
from tests.storage.support import OTHER, entries, identity

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")
pytest.importorskip("pymysql")

from sqlalchemy.exc import DBAPIError

from mosaik.storage import shared, sql_server
from mosaik.storage.mariadb import MariaDB
from mosaik.storage.postgres import Postgres
from mosaik.storage.sql_server import ServerEngine
from tests.storage.servers import ServerSubject, engine_of


@pytest.mark.parametrize("rule", rules(), ids=[each.id for each in rules()])
def test_every_rule_is_kept(rule: Rule, subject: ServerSubject) -> None:
    result = try_rule(rule, subject)
    if result.outcome in {Outcome.NOT_ATTESTED, Outcome.NOT_APPLICABLE}:
        pytest.skip(f"{rule}: {result.outcome}: {result.detail}")
    assert result.outcome is Outcome.KEPT, f"{rule}\n{result.detail}"


# -- one writer -----------------------------------------------------------------------------------------


def test_whoever_was_superseded_writes_nothing(subject: ServerSubject, url: str) -> None:
    """As when the server took the session for dead and let somebody else in."""
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))
    subject.say("UPDATE mosaik_stores SET epoch = epoch + 1")
    with pytest.raises(
        StorageLocked, match=r"somebody else has opened store .* nothing was written"
    ):
        log.append(entries(1, log.tail))
    with pytest.raises(StoragePoisoned):
        log.append(entries(1, log.tail))
    environment.close()
    environment = open_storage(url, peer=PEER)
    assert environment.log(identity(peer=PEER)).last().index == 3
    environment.close()


def test_the_planted_bug_that_does_not_look_at_its_epoch_writes_all_the_same(
    subject: ServerSubject, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))

    def blind(self: ServerEngine, changes: Any) -> None:
        with self._transaction():
            for change in changes:
                self._apply(self._connection, change)

    monkeypatch.setattr(ServerEngine, "commit", blind)
    subject.say("UPDATE mosaik_stores SET epoch = epoch + 1")
    log.append(entries(1))
    environment.close()


def test_without_the_lock_two_would_open_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug; the epoch still keeps the first from writing."""

    def always(*_: object) -> bool:
        return True

    for server in (Postgres, MariaDB):
        monkeypatch.setattr(server, "lock", always)
    first = open_storage(url, peer=PEER)
    log = first.log(identity(peer=PEER))
    monkeypatch.setattr(shared, "_table", {})  # as in another process
    second = open_storage(url, peer=PEER)
    with pytest.raises(StorageLocked):
        log.append(entries(1))
    second.close()
    first.close()


def test_the_nodes_of_a_group_share_one_url(subject: ServerSubject) -> None:
    mine, theirs = open_storage(subject.base, peer=PEER), open_storage(subject.base, peer=OTHER)
    mine.log(identity(peer=PEER)).append(entries(3))
    log = theirs.log(identity(peer=OTHER))
    assert log.last().index == 0
    log.append(entries(5))
    assert mine.log(identity(peer=PEER)).last().index == 3
    mine.close()
    theirs.close()


def test_tools_have_to_name_the_store(subject: ServerSubject, url: str) -> None:
    open_storage(url, peer=PEER).close()
    open_existing(url).close()
    with pytest.raises(ConfigError, match="say which one"):
        open_existing(subject.base)
    with pytest.raises(StorageUnavailable, match="there is no store"):
        open_existing(f"{subject.base}&store=nobody-s")
    assert not subject.say("SELECT 1 FROM mosaik_stores WHERE name = 'nobody-s'")


# -- connections that are lost -----------------------------------------------------------------------------


def session_of(environment: Any) -> Any:
    """The one connection of an opening."""
    return engine_of(environment)._connection


def cut(subject: ServerSubject, environment: Any) -> None:
    """Ends the session of an opening, as a server or a network does."""
    session = session_of(environment)
    if subject.kind.name == "postgres":
        pid = session.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        subject.say("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
    else:
        number = session.exec_driver_sql("SELECT connection_id()").scalar()
        subject.say(f"KILL {number}")


def test_a_session_that_is_gone_poisons_and_nothing_was_written(
    subject: ServerSubject, url: str
) -> None:
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))
    cut(subject, environment)
    with pytest.raises(StoragePoisoned, match="open the store again"):
        log.append(entries(1, log.tail))
    again = open_storage(url, peer=PEER)
    assert again.log(identity(peer=PEER)).last().index == 3
    again.close()
    environment.close()


def test_an_answer_to_commit_that_is_lost_is_an_unknown_outcome(
    subject: ServerSubject, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    connection = session_of(environment)
    say: Callable[[str], Any] = connection.exec_driver_sql

    def deaf(statement: str) -> Any:
        answer = say(statement)
        if statement == "COMMIT":
            cut(subject, environment)
            raise DBAPIError(
                statement, None, OSError("connection reset"), connection_invalidated=True
            )
        return answer

    monkeypatch.setattr(connection, "exec_driver_sql", deaf)
    with pytest.raises(StoragePoisoned):
        log.append(entries(3))
    again = open_storage(url, peer=PEER)
    assert again.log(identity(peer=PEER)).last().index == 3  # it was done
    again.close()
    environment.close()


def test_what_is_written_is_not_logged(
    subject: ServerSubject, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver's error quotes the statement and its values; here, other people's commands."""
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    subject.say("ALTER TABLE mosaik_rows RENAME TO mosaik_hidden")
    try:
        secret = seal(EntryKind.COMMAND, 1, 1, 0, b"kit-secret", 0)
        with pytest.raises(StoragePoisoned) as raised:
            log.append([secret])
    finally:
        subject.say("ALTER TABLE mosaik_hidden RENAME TO mosaik_rows")
    environment.close()
    trace = "".join(traceback.format_exception(raised.value))
    assert "mosaik_rows" in caplog.text
    assert "INSERT" not in caplog.text
    assert "kit-secret" not in trace
    assert "[parameters:" not in trace


@pytest.mark.parametrize("gone", [False, True], ids=["refused", "and the session is gone"])
def test_a_full_disk_refuses_unless_nobody_can_tell(
    subject: ServerSubject, url: str, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))

    class NoRoom(Exception):
        sqlstate = "53100"

    def full(*_: Any) -> None:
        raise DBAPIError("INSERT", None, NoRoom(1021, "Disk full"), connection_invalidated=gone)

    with monkeypatch.context() as patch:
        patch.setattr(ServerEngine, "_apply", full)
        with pytest.raises(StoragePoisoned if gone else StorageFull):
            log.append(entries(1, log.tail))
    if not gone:
        log.append(entries(1, log.tail))  # there is room again
        assert log.last().index == 4
    environment.close()


# -- what is said -----------------------------------------------------------------------------------------


def test_the_settings_are_read_back(subject: ServerSubject, url: str) -> None:
    environment = open_storage(url, peer=PEER)
    described = environment.describe()
    environment.close()
    if subject.kind.name == "postgres":
        assert described.settings["synchronous_commit"] == "on"
        assert {"fsync", "full_page_writes"} < described.settings.keys()
    else:
        assert {"innodb_flush_log_at_trx_commit", "innodb_doublewrite"} < described.settings.keys()
    assert Capability.KILL_SAFE in described.capabilities


def test_errors_say_where_and_keep_the_password(subject: ServerSubject) -> None:
    where = StorageURL.parse(subject.base)
    wrong = f"{where.scheme}://stranger:kit-secret@127.0.0.1:1/nowhere?timeout=2s"
    with pytest.raises(StorageUnavailable) as raised:
        open_storage(wrong, peer=PEER)
    assert "kit-secret" not in str(raised.value)
    assert f"{where.scheme}://stranger:***@127.0.0.1:1/nowhere" in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb"])
def test_a_url_names_a_database(scheme: str) -> None:
    with pytest.raises(
        ConfigError, match=f"names no database; write {scheme}://user@host/database"
    ):
        open_storage(f"{scheme}://host", peer=PEER)
    with pytest.raises(ConfigError, match="names no database"):
        open_storage(scheme, peer=PEER)


def test_a_newer_schema_is_refused_and_left_alone(subject: ServerSubject, url: str) -> None:
    open_storage(url, peer=PEER).close()
    [(now,)] = subject.say("SELECT version_num FROM mosaik_version")
    subject.say("UPDATE mosaik_version SET version_num = '9999'")
    try:
        with pytest.raises(StorageFormatTooNew, match="schema 9999"):
            open_storage(url, peer=PEER)
    finally:
        subject.say("UPDATE mosaik_version SET version_num = :now", now=now)


def test_an_older_schema_is_migrated(subject: ServerSubject, tmp_path: Path) -> None:
    fresh = ServerSubject(subject.kind, subject.origin)
    try:
        open_storage(fresh.url(tmp_path), peer=PEER).close()
        fresh.say("DROP TABLE mosaik_stores")
        fresh.say("UPDATE mosaik_version SET version_num = '0001'")
        open_storage(fresh.url(tmp_path), peer=PEER).close()
        assert fresh.say("SELECT version_num FROM mosaik_version") == [("0002",)]
        assert len(fresh.say("SELECT epoch FROM mosaik_stores")) == 1
    finally:
        fresh.close()


def test_a_session_that_is_lost_is_not_replaced_by_one_without_the_lock(
    subject: ServerSubject, url: str
) -> None:
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))
    cut(subject, environment)
    for _ in range(2):
        with pytest.raises(StoragePoisoned, match="the connection to the server was lost"):
            log.get_range(1, 3)
    environment.close()


def test_rows_are_fetched_in_bounded_pages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range is never fetched whole: lengths are asked for first."""
    monkeypatch.setattr(sql_server, "_PAGE", 4)
    environment = open_storage(url, peer=PEER)
    log = environment.log(identity(peer=PEER))
    written = entries(64, size=30_000)
    log.append(written)
    assert log.get_range(1, 64) == written
    environment.close()


def test_the_version_of_the_tables_is_told_without_changing_it(
    subject: ServerSubject, tmp_path: Path
) -> None:
    fresh = ServerSubject(subject.kind, subject.origin)
    try:
        open_storage(fresh.url(tmp_path), peer=PEER).close()
        assert storage_format(fresh.url(tmp_path)) == ("0002", "0002")
        fresh.say("UPDATE mosaik_version SET version_num = '0001'")
        assert storage_format(fresh.url(tmp_path)) == ("0001", "0002")
        assert fresh.say("SELECT version_num FROM mosaik_version") == [("0001",)]
    finally:
        fresh.close()


# -- tools ----------------------------------------------------------------------------------------------


def test_a_store_moves_to_a_server_and_back(subject: ServerSubject, tmp_path: Path) -> None:
    """The server's URL need not name the store: it is found by the node that the source belongs to."""
    node = b"m" * 32  # whose store no other test has written to
    source, target = f"sqlite://{tmp_path}/a.db", f"sqlite://{tmp_path}/b.db"
    environment = open_storage(source, peer=node)
    environment.log(identity(peer=node)).append(entries(300))
    environment.close()
    assert main(["log", "copy", source, subject.base]) == 0
    named = f"{subject.base}&store={node[:5].hex()}"
    assert main(["log", "verify", named]) == 0
    assert main(["log", "copy", named, target]) == 0
    for url in (source, target):
        environment = open_storage(url, peer=node)
        assert environment.log(identity(peer=node)).get_range(0, 999) == entries(300)
        environment.close()
