"""The tables on a server: made, migrated and read back beside whatever else lives there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosaik.primitives.errors import StorageLocked, StorageUnavailable
from mosaik.storage import open_storage
from mosaik.testing.storage.subject import PEER
from tests.storage.support import OTHER, entries, identity

pytest.importorskip("sqlalchemy")

from mosaik.storage import schema
from mosaik.storage.mariadb import MariaDB
from mosaik.storage.postgres import Postgres
from tests.storage.servers import ServerSubject


@pytest.fixture
def fresh(subject: ServerSubject) -> Iterator[ServerSubject]:
    """A schema or database in which nothing was ever made."""
    made = ServerSubject(subject.kind, subject.origin)
    yield made
    made.close()


def survives_an_opening(where: ServerSubject, place: Path) -> None:
    environment = open_storage(where.url(place), peer=PEER)
    log = environment.log(identity(peer=PEER))
    log.append(entries(3))
    environment.close()
    environment = open_storage(where.url(place), peer=PEER)
    assert environment.log(identity(peer=PEER)).last().index == 3
    environment.close()


def test_an_application_that_uses_alembic_keeps_its_table(
    fresh: ServerSubject, tmp_path: Path
) -> None:
    fresh.say("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    fresh.say("INSERT INTO alembic_version VALUES ('theirs')")
    survives_an_opening(fresh, tmp_path)
    assert fresh.say("SELECT version_num FROM alembic_version") == [("theirs",)]


TABLES = ["mosaik_rows", "mosaik_meta", "mosaik_stores", "mosaik_version"]


@pytest.mark.parametrize("made", range(1, 5))
def test_tables_that_were_being_made_when_the_process_was_killed_are_made(
    fresh: ServerSubject, tmp_path: Path, made: int
) -> None:
    """Some servers commit each table by itself; the revision is written last of all."""
    open_storage(fresh.url(tmp_path), peer=PEER).close()
    for name in TABLES[:made]:
        fresh.say(f"DELETE FROM {name}")
    for name in TABLES[made:]:
        fresh.say(f"DROP TABLE {name}")
    survives_an_opening(fresh, tmp_path)


def test_tables_with_content_and_without_a_revision_are_left_alone(
    fresh: ServerSubject, tmp_path: Path
) -> None:
    survives_an_opening(fresh, tmp_path)
    fresh.say("DROP TABLE mosaik_version")
    with pytest.raises(StorageUnavailable, match="without a schema version"):
        open_storage(fresh.url(tmp_path), peer=PEER)
    assert fresh.say("SELECT count(*) FROM mosaik_rows") == [(1,)]


def test_a_migration_that_was_killed_is_done_again(fresh: ServerSubject, tmp_path: Path) -> None:
    """It had made its table, and not yet said so. Whoever made it once is not in the way."""
    maker = open_storage(f"{fresh.base}&store=maker", peer=OTHER)
    fresh.say("UPDATE mosaik_version SET version_num = '0001'")
    survives_an_opening(fresh, tmp_path)
    assert fresh.say("SELECT version_num FROM mosaik_version") == [(schema.REVISIONS[-1],)]
    maker.close()


def test_one_session_at_a_time_makes_the_tables(
    fresh: ServerSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def somebody_makes_them(_: object, connection: object, name: str) -> bool:
        return name.endswith("mine")  # only the store's own lock is free

    monkeypatch.setattr(Postgres, "lock", somebody_makes_them)
    monkeypatch.setattr(MariaDB, "lock", somebody_makes_them)
    with pytest.raises(StorageLocked, match="is making or migrating the tables"):
        open_storage(f"{fresh.base}&timeout=1s&store=mine", peer=PEER)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = :space"
    assert fresh.say(tables, space=fresh.space) == [(0,)]


def test_names_of_stores_are_compared_byte_by_byte(fresh: ServerSubject) -> None:
    for name, peer in [("Node", PEER), ("node", OTHER), ("node%20", PEER)]:
        open_storage(f"{fresh.base}&store={name}", peer=peer).close()
    assert fresh.say("SELECT count(*) FROM mosaik_stores") == [(3,)]


def test_a_table_without_transactions_is_refused(fresh: ServerSubject, tmp_path: Path) -> None:
    if fresh.kind.name != "mariadb":
        pytest.skip("PostgreSQL has one kind of table")
    open_storage(fresh.url(tmp_path), peer=PEER).close()
    fresh.say("ALTER TABLE mosaik_rows ENGINE=Aria")
    with pytest.raises(StorageUnavailable, match="ALTER TABLE mosaik_rows ENGINE=InnoDB"):
        open_storage(fresh.url(tmp_path), peer=PEER)


def test_a_schema_that_is_not_there_is_named(subject: ServerSubject) -> None:
    if subject.kind.name != "postgres":
        pytest.skip("MariaDB calls a database a schema")
    with pytest.raises(StorageUnavailable, match="no such schema; make it with CREATE SCHEMA"):
        open_storage(subject.origin + "?schema=nobody_s", peer=PEER)
