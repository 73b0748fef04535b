"""The tables of the SQL store, and how an older database becomes this one.

A new database gets the tables at once and is stamped; Alembic, which takes longer to import than a node
to start, is loaded only when an older one has to be migrated. A test holds the two ways to the same
result. Scripts live in ``migrations/`` of the source tree and in ``mosaik/migrations`` of the wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
    select,
)

from mosaik.primitives.errors import StorageFormatTooNew, StorageUnavailable

__all__ = ["REVISIONS", "ensure", "meta", "metadata", "migrations", "rows", "version"]

#: Every revision there ever was, oldest first.
REVISIONS: Final = ("0001",)

metadata: Final = MetaData()

# SQLite's integers end at 2^63-1, which the contract's limit on indices respects. In SQLite the rows are
# an ordinary table with an index beside it: a tree keyed by (log, first) would hold whole rows in its inner
# nodes, which costs more for large ones than the index does.
rows: Final = Table(
    "mosaik_rows",
    metadata,
    Column("log", LargeBinary(32), primary_key=True),
    Column(
        "first",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("entries", LargeBinary, nullable=False),
)
meta: Final = Table(
    "mosaik_meta",
    metadata,
    Column("log", LargeBinary(32), primary_key=True),
    Column("record", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
#: Alembic's own table: the one row that opening compares.
version: Final = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False, primary_key=True),
)


def ensure(connection: Connection, url: str) -> None:
    """Brings the database to the newest revision.

    The caller has a transaction open where the database needs one, and commits.

    Raises:
        StorageFormatTooNew: it is of a revision that this mosaik does not know.
        StorageUnavailable: it holds tables of ours without a revision.
    """
    found = _revision(connection)
    if found == REVISIONS[-1]:
        return
    if found is None:
        if set(inspect(connection).get_table_names()) & set(metadata.tables):
            raise StorageUnavailable(
                "the database holds tables of mosaik without a schema version; restore it, or name a "
                "new one",
                url=url,
            )
        metadata.create_all(connection)
        connection.execute(version.insert().values(version_num=REVISIONS[-1]))
    elif found in REVISIONS:
        _migrate(connection)
    else:
        raise StorageFormatTooNew(
            f"the database has schema {found}; this mosaik knows {REVISIONS[-1]}: upgrade mosaik",
            url=url,
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(version.name):
        return None
    found: str | None = connection.execute(select(version.c.version_num)).scalar()
    return found


def migrations() -> Path:
    """Where the scripts are.

    Raises:
        StorageUnavailable: they were not installed.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "migrations", package.parent / "migrations"):
        if (candidate / "env.py").exists():
            return candidate
    raise StorageUnavailable("the migration scripts are missing; install mosaik-raft again")


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
