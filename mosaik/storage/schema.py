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
from sqlalchemy.dialects.mysql import LONGBLOB, VARBINARY, VARCHAR

from mosaik.primitives.errors import StorageFormatTooNew, StorageUnavailable

__all__ = [
    "REVISIONS",
    "STORE_NAME",
    "ensure",
    "is_current",
    "meta",
    "metadata",
    "migrations",
    "revision",
    "rows",
    "stores",
    "version_table",
]

#: Characters of the longest name of a store on a server.
STORE_NAME: Final = 128
#: Every revision there ever was, oldest first.
REVISIONS: Final = ("0001", "0002")

metadata: Final = MetaData()

# MariaDB's plain BLOB ends at 64 KiB and cannot be a key. On a server a log's key begins with the four
# bytes of its store's number.
_KEY: Final = LargeBinary(32).with_variant(VARBINARY(36), "mysql", "mariadb")
# A server's default collation takes "Node" and "node " for the same name.
_NAME: Final = String(STORE_NAME).with_variant(
    VARCHAR(STORE_NAME, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mysql", "mariadb"
)
_BYTES: Final = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")

# SQLite's integers end at 2^63-1, which the contract's limit on indices respects. In SQLite the rows are
# an ordinary table with an index beside it: a tree keyed by (log, first) would hold whole rows in its inner
# nodes, which costs more for large ones than the index does.
rows: Final = Table(
    "mosaik_rows",
    metadata,
    Column("log", _KEY, primary_key=True),
    Column(
        "first",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("entries", _BYTES, nullable=False),
)
meta: Final = Table(
    "mosaik_meta",
    metadata,
    Column("log", _KEY, primary_key=True),
    Column("record", _BYTES, nullable=False),
    sqlite_with_rowid=False,
)
#: The stores of a server's database, by name. An opening raises the epoch and writes only while it is its
#: own. A file is one store, and has none of these.
stores: Final = Table(
    "mosaik_stores",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", _NAME, nullable=False, unique=True),
    Column("epoch", BigInteger, nullable=False),
)


def version_table(connection: Connection) -> Table:
    """Alembic's own table: the one row that opening compares.

    On a server it has a name of ours, since an application that lives there may use Alembic, too.
    """
    name = "alembic_version" if connection.dialect.name == "sqlite" else "mosaik_version"
    column = Column("version_num", String(32), nullable=False, primary_key=True)
    return Table(name, MetaData(), column)


def ensure(connection: Connection, url: str) -> None:
    """Brings the database to the newest revision.

    The caller has a transaction open where the database needs one, and commits.

    Raises:
        StorageFormatTooNew: it is of a revision that this mosaik does not know.
        StorageUnavailable: it holds tables of ours without a revision.
    """
    found = revision(connection)
    if found == REVISIONS[-1]:
        return
    if found is None:
        _make(connection, url)
    elif found in REVISIONS:
        _migrate(connection)
    else:
        raise StorageFormatTooNew(
            f"the database has schema {found}; this mosaik knows {REVISIONS[-1]}: upgrade mosaik",
            url=url,
        )


def _make(connection: Connection, url: str) -> None:
    """Makes the tables, and last of all says which revision they are of.

    Not every server takes making a table back. So empty ones without a revision are what a process left
    that was killed here.
    """
    left = set(inspect(connection).get_table_names()) & set(metadata.tables)
    if any(connection.execute(select(metadata.tables[name]).limit(1)).first() for name in left):
        raise StorageUnavailable(
            "the database holds tables of mosaik without a schema version; restore it, or name a new one",
            url=url,
        )
    version = version_table(connection)
    metadata.drop_all(connection)
    metadata.create_all(connection)
    version.create(connection, checkfirst=True)
    connection.execute(version.insert().values(version_num=REVISIONS[-1]))


def is_current(connection: Connection) -> bool:
    """Whether there is nothing to do for `ensure`."""
    return revision(connection) == REVISIONS[-1]


def revision(connection: Connection) -> str | None:
    """The database's revision; None where there are no tables yet."""
    version = version_table(connection)
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
