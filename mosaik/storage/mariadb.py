"""MariaDB, through PyMySQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2s
from typing import TYPE_CHECKING, Any, Final

from mosaik.primitives.entry import MAX_ENTRY_SIZE
from mosaik.primitives.errors import StorageUnavailable
from mosaik.storage.engine import ROW_SIZE
from mosaik.storage.server import ServerOptions, Settings
from mosaik.storage.server_plugin import ServerPlugin
from mosaik.storage.url import StorageURL

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Executable, Table

__all__ = ["MariaDB", "MariaDBOptions", "mariadb"]

#: What durability rests on; https://mariadb.com/kb/en/innodb-system-variables/
_SHOWN: Final = (
    "innodb_flush_log_at_trx_commit",
    "innodb_doublewrite",
    "innodb_flush_method",
    "innodb_checksum_algorithm",
    "sync_binlog",
    "log_bin",
    "max_allowed_packet",
)
#: Bytes of the longest statement: the largest row, which the driver may have to escape byte for byte.
_PACKET: Final = 2 * MAX_ENTRY_SIZE + 16 * ROW_SIZE
#: The disk is full, the table is full.
_FULL: Final = {1021, 1114}
#: What an engine says; then the kernel's number stands in the text.
_ENGINE_SAYS: Final = 1030
_NO_SPACE: Final = re.compile(r"\berror 28\b")
#: Values of innodb_flush_method with which nothing is ever synced; they are for tests.
_UNSYNCED: Final = {"nosync", "littlesync"}
#: The longest that the server knows: a year. It ends sessions that said nothing for so long, by default
#: after eight hours, and with them their locks.
_IDLE: Final = 31_536_000


class MariaDBOptions(ServerOptions, frozen=True, kw_only=True):
    """Options of a ``mariadb://`` URL.

    Attributes:
        socket: the path of the server's local socket, in place of a host.
        defaults_file: an option file such as ``~/.my.cnf`` whose ``[client]`` part names user and password.
        ssl_ca: a file of certificates; the connection is encrypted, and the server has to show one of
            theirs.
    """

    socket: str = ""
    defaults_file: str = ""
    ssl_ca: str = ""


class MariaDB:
    """Implements `Server`."""

    def connect(self, url: StorageURL, options: MariaDBOptions, store: str) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.engine import URL
        from sqlalchemy.pool import StaticPool

        del store
        address = URL.create(
            "mariadb+pymysql",
            username=url.user or None,
            password=url.password or None,
            host=url.host or None,
            port=url.port or None,
            database=url.path.strip("/"),
        )
        arguments: dict[str, Any] = {
            "connect_timeout": max(2, round(options.timeout)),
            "read_timeout": options.timeout,
            "write_timeout": options.timeout,
            "max_allowed_packet": _PACKET,
            "charset": "utf8mb4",
            "init_command": "SET SESSION sql_mode = 'STRICT_ALL_TABLES', "
            f"default_storage_engine = InnoDB, wait_timeout = {_IDLE}, "
            f"innodb_lock_wait_timeout = {max(1, round(options.timeout))}",
        }
        if options.socket:
            arguments["unix_socket"] = options.socket
        if options.defaults_file:
            arguments["read_default_file"] = options.defaults_file
        if options.ssl_ca:
            arguments["ssl"] = {"ca": options.ssl_ca}
        return create_engine(
            address,
            connect_args=arguments,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # errors are logged, and what an application says is not for the log
        )

    def enter(self, connection: Connection, url: str) -> str:
        from sqlalchemy import func, select

        del url
        # Otherwise a deletion locks the gap behind its rows, where another store's may have to go.
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return str(connection.execute(select(func.database())).scalar())

    def lock(self, connection: Connection, name: str) -> bool:
        from sqlalchemy import func, select

        return connection.execute(select(func.get_lock(_short(name), 0))).scalar() == 1

    def holder(self, connection: Connection, name: str) -> str:
        from sqlalchemy import func, select, text

        session = connection.execute(select(func.is_used_lock(_short(name)))).scalar()
        if session is None:
            return ""
        host = connection.execute(
            text("SELECT host FROM information_schema.processlist WHERE id = :id"), {"id": session}
        ).scalar()
        return f"session {session}" + (f" (from {host})" if host else "")

    def unlock(self, connection: Connection, name: str) -> None:
        from sqlalchemy import func, select

        connection.execute(select(func.release_lock(_short(name))))

    def upsert(self, table: Table) -> Executable:
        from sqlalchemy.dialects.mysql import insert

        new = insert(table)
        keys = [column.name for column in table.primary_key]
        rest = {c.name: new.inserted[c.name] for c in table.columns if c.name not in keys}
        return new.on_duplicate_key_update(rest)

    def settings(self, connection: Connection, url: str) -> Settings:
        from sqlalchemy import bindparam, text

        shown = text("SHOW VARIABLES WHERE variable_name IN :names").bindparams(
            bindparam("names", expanding=True)
        )
        found = connection.execute(shown, {"names": _SHOWN}).all()
        values = {name: str(value) for name, value in found}
        if int(values["max_allowed_packet"]) < _PACKET:
            raise StorageUnavailable(
                f"the server takes statements of {values['max_allowed_packet']} bytes, and the largest "
                f"entry needs one of {_PACKET}: SET GLOBAL max_allowed_packet = 67108864, and write it "
                f"into the server's configuration",
                url=url,
            )
        _require_innodb(connection, url)
        version = connection.execute(text("SELECT version()")).scalar()
        return Settings(
            engine=f"MariaDB {version}",
            values=values,
            kill_safe=values["innodb_flush_log_at_trx_commit"] != "0",
            power_safe=_is_power_safe(values),
        )

    def is_full(self, error: BaseException) -> bool:
        code, said, *_ = (*error.args, 0, "")
        return code in _FULL or (code == _ENGINE_SAYS and _NO_SPACE.search(str(said)) is not None)


def _is_power_safe(values: Mapping[str, str]) -> bool:
    """With a binary log, recovery takes back what that log has lost, however well InnoDB kept it:
    https://mariadb.com/kb/en/binary-log-group-commit-and-innodb-flushing-performance/"""
    binlog_synced = values["log_bin"] == "OFF" or values["sync_binlog"] == "1"
    return (
        values["innodb_flush_log_at_trx_commit"] in {"1", "3"}
        and values["innodb_doublewrite"] == "ON"
        and values.get("innodb_flush_method", "").lower() not in _UNSYNCED
        and binlog_synced
    )


def _require_innodb(connection: Connection, url: str) -> None:
    """Other engines take half a transaction.

    Raises:
        StorageUnavailable: a table of ours is one's.
    """
    from sqlalchemy import text

    found = connection.execute(
        text(
            "SELECT table_name, engine FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name LIKE 'mosaik\\_%' AND engine <> 'InnoDB'"
        )
    ).first()
    if found is not None:
        raise StorageUnavailable(
            f"the table {found[0]} is kept by {found[1]}, which has no transactions: "
            f"ALTER TABLE {found[0]} ENGINE=InnoDB",
            url=url,
        )


def _short(name: str) -> str:
    """Names of locks have at most 64 characters, and are the whole server's."""
    return "mosaik." + blake2s(name.encode(), digest_size=16).hexdigest()


mariadb: Final = ServerPlugin(
    "mariadb",
    MariaDBOptions,
    MariaDB,
    drivers=("pymysql",),
    install="pip install 'mosaik-raft[mariadb]'",
)
