"""The SQL store's schema: an older database becomes this one, a newer one is refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mosaik.primitives.errors import StorageFormatTooNew, StorageUnavailable
from mosaik.storage import StorageEnvironment, open_storage
from tests.storage.stores import ROOT, place_of, require, url_of
from tests.storage.support import PEER, entries, identity

FIRST, OLD, NEW = "0001", "0002", "0003"

#: A revision that is yet to come: a table that did not exist, and a column in one that did.
REVISION = f'''
import sqlalchemy as sa
from alembic import op

revision = "{NEW}"
down_revision = "{OLD}"
branch_labels = depends_on = None

def upgrade():
    op.create_table("mosaik_later", sa.Column("number", sa.Integer, primary_key=True))
    op.execute("INSERT INTO mosaik_later VALUES (7)")
    op.add_column("mosaik_meta", sa.Column("note", sa.Text))
'''

Upgrade = Callable[..., None]


@pytest.fixture(autouse=True)
def _sqlite() -> None:
    require("sqlite")


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    """Makes this process the mosaik of tomorrow, which knows one revision more."""
    from mosaik.storage import schema

    def to(script: str = REVISION) -> None:
        scripts = tmp_path / "migrations"
        if not scripts.exists():
            shutil.copytree(schema.migrations(), scripts)
        (scripts / "versions" / f"{NEW}_later.py").write_text(script)
        monkeypatch.setattr(schema, "REVISIONS", (FIRST, OLD, NEW))
        monkeypatch.setattr(schema, "migrations", lambda: scripts)

    return to


def open_here(directory: Path) -> StorageEnvironment:
    return open_storage(url_of("sqlite", directory), peer=PEER)


def fill(directory: Path) -> None:
    with closing(open_here(directory)) as environment:
        environment.log(identity()).append(entries(50))


def holds_what_was_written(directory: Path) -> None:
    with closing(open_here(directory)) as environment:
        log = environment.log(identity())
        assert log.get_range(0, 999) == entries(log.tail.index)
        assert log.tail.index >= 50
        log.append(entries(1, log.tail))


def query(directory: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(place_of("sqlite", directory))) as connection:
        return connection.execute(statement).fetchall()


def revision(directory: Path) -> list[Any]:
    return query(directory, "SELECT version_num FROM alembic_version")


def test_an_older_database_is_upgraded_and_keeps_its_logs(tmp_path: Path, upgrade: Upgrade) -> None:
    fill(tmp_path)
    assert revision(tmp_path) == [(OLD,)]
    upgrade()
    holds_what_was_written(tmp_path)
    assert revision(tmp_path) == [(NEW,)]
    assert query(tmp_path, "SELECT number FROM mosaik_later") == [(7,)]
    assert query(tmp_path, "SELECT DISTINCT note FROM mosaik_meta") == [(None,)]
    # The second opening has nothing to do: the row would be inserted twice.
    holds_what_was_written(tmp_path)


def a_newer_database_is_refused(directory: Path) -> None:
    with pytest.raises(StorageFormatTooNew, match=f"schema {NEW}.*knows {OLD}: upgrade mosaik"):
        open_here(directory).close()


def test_a_newer_database_is_refused_and_left_alone(
    tmp_path: Path, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade()
    fill(tmp_path)
    monkeypatch.undo()
    a_newer_database_is_refused(tmp_path)
    upgrade()
    holds_what_was_written(tmp_path)


def test_a_mosaik_that_does_not_look_is_caught(
    tmp_path: Path, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mosaik.storage import schema

    upgrade()
    fill(tmp_path)
    monkeypatch.undo()

    def believes(_: object) -> str:
        """Planted bug: every database is taken for a current one."""
        return OLD

    monkeypatch.setattr(schema, "revision", believes)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_newer_database_is_refused(tmp_path)


def a_failed_migration_changes_nothing(directory: Path, upgrade: Upgrade, end: str) -> None:
    fill(directory)
    before = query(directory, "SELECT type, name, sql FROM sqlite_master")
    upgrade(f"{REVISION}{end}")
    with pytest.raises(StorageUnavailable, match="in the middle"):
        open_here(directory)
    assert query(directory, "SELECT type, name, sql FROM sqlite_master") == before
    assert revision(directory) == [(OLD,)]


FAILS = "    raise RuntimeError('in the middle')\n"


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, upgrade: Upgrade) -> None:
    a_failed_migration_changes_nothing(tmp_path, upgrade, FAILS)
    # The repaired script finds everything as it was.
    upgrade()
    holds_what_was_written(tmp_path)
    assert revision(tmp_path) == [(NEW,)]


def test_a_migration_in_two_transactions_is_caught(tmp_path: Path, upgrade: Upgrade) -> None:
    with pytest.raises(AssertionError, match="mosaik_later"):
        a_failed_migration_changes_nothing(
            tmp_path, upgrade, f"    op.execute('COMMIT')\n    op.execute('BEGIN')\n{FAILS}"
        )


def test_a_database_without_a_revision_is_not_guessed_at(tmp_path: Path) -> None:
    fill(tmp_path)
    with closing(sqlite3.connect(place_of("sqlite", tmp_path))) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    with pytest.raises(StorageUnavailable, match="without a schema version"):
        open_here(tmp_path)


# -- two ways to one schema ------------------------------------------------------------------------------


def tables(path: Path) -> dict[str, list[Any]]:
    """Every table of a database, as the database itself describes it."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        return {
            name: [
                "WITHOUT ROWID" in sql,
                *connection.execute(f"PRAGMA table_info({name})"),
                *connection.execute(f"PRAGMA index_list({name})"),
            ]
            for name, sql in found.fetchall()
        }


def both_ways_lead_to_one_schema(scratch: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    from mosaik.storage import schema

    made, migrated = scratch / "made.db", scratch / "migrated.db"
    engine = create_engine(f"sqlite:///{made}")
    with engine.begin() as connection:
        schema.ensure(connection, "")
    engine.dispose()
    engine = create_engine(f"sqlite:///{migrated}")
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    assert tables(made) == tables(migrated)


def test_making_and_migrating_lead_to_one_schema(tmp_path: Path) -> None:
    both_ways_lead_to_one_schema(tmp_path)


def test_a_revision_that_the_tables_lack_is_caught(tmp_path: Path, upgrade: Upgrade) -> None:
    """Planted bug: somebody wrote a migration and forgot to say the same in the tables."""
    upgrade()
    with pytest.raises(AssertionError, match="mosaik_later"):
        both_ways_lead_to_one_schema(tmp_path)


def test_the_last_revision_is_the_newest_script() -> None:
    from mosaik.storage import schema

    scripts = sorted((schema.migrations() / "versions").glob("*.py"))
    assert tuple(path.name.partition("_")[0] for path in scripts) == schema.REVISIONS


# -- what a start costs ----------------------------------------------------------------------------------

LOADED = """
import sys
from pathlib import Path
from tests.storage.test_migration import open_here
open_here(Path(sys.argv[1])).close()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"alembic", "sqlalchemy", "mako"}))
"""


def loaded(directory: Path, before: str = "") -> str:
    """Which of the heavy modules a process has loaded that opened a store."""
    done = subprocess.run(
        [sys.executable, "-c", before + LOADED, str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stdout.strip()


def test_alembic_is_loaded_for_a_migration_only(tmp_path: Path, upgrade: Upgrade) -> None:
    assert loaded(tmp_path) == "['sqlalchemy']"  # a new one
    assert loaded(tmp_path) == "['sqlalchemy']"  # a current one
    upgrade()
    scripts = tmp_path / "migrations"
    tomorrow = (
        "from pathlib import Path\n"
        "from mosaik.storage import schema\n"
        f"schema.REVISIONS = {(FIRST, OLD, NEW)}\n"
        f"schema.migrations = lambda: Path({str(scripts)!r})\n"
    )
    assert loaded(tmp_path, tomorrow) == "['alembic', 'mako', 'sqlalchemy']"
    assert revision(tmp_path) == [(NEW,)]
