"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from hashlib import blake2s
from typing import TYPE_CHECKING, Any, Final

from mosaik.primitives.errors import StorageUnavailable
from mosaik.storage.server import ServerOptions, Settings
from mosaik.storage.server_plugin import ServerPlugin
from mosaik.storage.url import StorageURL

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine, Executable, Table

__all__ = ["Postgres", "PostgresOptions", "postgresql"]

#: What durability rests on; https://www.postgresql.org/docs/current/runtime-config-wal.html
_SHOWN: Final = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
#: With these a commit has been written and flushed here when it returns; the rest is about standbys.
_FLUSHED: Final = {"on", "local", "remote_write", "remote_apply"}
#: disk_full and out_of_memory are refusals; only the first is about room for the batch.
_DISK_FULL: Final = "53100"


class PostgresOptions(ServerOptions, frozen=True, kw_only=True):
    """Options of a ``postgresql://`` URL. Without user, password or host libpq looks where it always does:
    its environment variables, ``.pgpass``, the local socket.

    Attributes:
        schema: where the tables are; it must exist.
        sslmode: as libpq has it.
    """

    schema: str = ""
    sslmode: str = ""


class Postgres:
    """Implements `Server`."""

    def connect(self, url: StorageURL, options: PostgresOptions, store: str) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.engine import URL
        from sqlalchemy.pool import StaticPool

        address = URL.create(
            "postgresql+psycopg",
            username=url.user or None,
            password=url.password or None,
            host=url.host or None,
            port=url.port or None,
            database=url.path.strip("/"),
        )
        milliseconds = round(options.timeout * 1000)
        settings = {
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            # How soon the server finds out that this machine is gone, and lets go of the lock.
            "tcp_keepalives_idle": 10,
            "tcp_keepalives_interval": 5,
            "tcp_keepalives_count": 3,
            "client_min_messages": "error",
        }
        if options.schema:
            settings["search_path"] = '"' + options.schema.replace('"', '""') + '"'
        arguments: dict[str, Any] = {
            "connect_timeout": max(2, round(options.timeout)),
            "tcp_user_timeout": milliseconds,
            "keepalives_idle": 10,
            "application_name": f"mosaik {store}"[:63],
            "options": " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items()),
        }
        if options.sslmode:
            arguments["sslmode"] = options.sslmode
        engine = create_engine(
            address,
            connect_args=arguments,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # errors are logged, and what an application says is not for the log
        )
        impatient = _impatient(options.timeout)

        def connect(
            _: object, record: object, args: Sequence[Any], known: dict[str, Any]
        ) -> object:
            return impatient.connect(*args, **known)

        event.listen(engine, "do_connect", connect)
        return engine

    def enter(self, connection: Connection, url: str) -> str:
        from sqlalchemy import func, select, text

        # Whoever is idle keeps its lock. The setting is there since PostgreSQL 14.
        connection.execute(
            text(
                "SELECT set_config(name, '0', false) FROM pg_settings "
                "WHERE name = 'idle_session_timeout'"
            )
        )
        where = select(func.current_database(), func.current_schema())
        database, schema = connection.execute(where).one()
        if schema is None:
            raise StorageUnavailable(
                "the database has no such schema; make it with CREATE SCHEMA, or name another in "
                "?schema=…",
                url=url,
            )
        return f"{database}\0{schema}"

    def lock(self, connection: Connection, name: str) -> bool:
        from sqlalchemy import func, select

        return bool(connection.execute(select(func.pg_try_advisory_lock(_number(name)))).scalar())

    def holder(self, connection: Connection, name: str) -> str:
        from sqlalchemy import text

        number = _number(name) & (1 << 64) - 1
        row = connection.execute(
            text(
                "SELECT a.pid, a.application_name, a.client_addr FROM pg_locks l "
                "JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted "
                "AND l.classid = :high AND l.objid = :low AND l.database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ),
            {"high": number >> 32, "low": number & 0xFFFFFFFF},
        ).first()
        if row is None:
            return ""
        return f"session {row[0]} ({row[1]}, from {row[2] or 'the local socket'})"

    def unlock(self, connection: Connection, name: str) -> None:
        from sqlalchemy import func, select

        connection.execute(select(func.pg_advisory_unlock(_number(name))))

    def upsert(self, table: Table) -> Executable:
        from sqlalchemy.dialects.postgresql import insert

        new = insert(table)
        keys = [column.name for column in table.primary_key]
        rest = {c.name: new.excluded[c.name] for c in table.columns if c.name not in keys}
        return new.on_conflict_do_update(index_elements=keys, set_=rest)

    def settings(self, connection: Connection, url: str) -> Settings:
        from sqlalchemy import text

        del url
        values = {name: str(connection.execute(text(f"SHOW {name}")).scalar()) for name in _SHOWN}
        version = connection.execute(text("SHOW server_version")).scalar()
        flushed = values["synchronous_commit"] in _FLUSHED
        return Settings(
            engine=f"PostgreSQL {version}",
            values=values,
            kill_safe=flushed,
            power_safe=flushed and values["fsync"] == "on" == values["full_page_writes"],
        )

    def is_full(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) == _DISK_FULL


def _impatient(seconds: float) -> type[psycopg.Connection[Any]]:
    """Connections that give up when the server does not answer.

    The server's own timeouts need a server that still runs, and a COMMIT has none. libpq waits for ever.
    """
    import psycopg

    def bounded(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # Beyond the protocol: each step says what it waits for, and is told what is ready; nothing, now
        # and then, so that it may look around.
        deadline = time.monotonic() + seconds
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    raise TimeoutError
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **known: Any) -> Any:
            try:
                return super().wait(bounded(gen), *args, **known)
            except TimeoutError as error:
                self.close()
                raise psycopg.OperationalError(
                    f"no answer within {seconds:g} s; the connection was closed"
                ) from error

    return Impatient


def _number(name: str) -> int:
    return int.from_bytes(blake2s(name.encode(), digest_size=8).digest(), "big", signed=True)


def _escaped(value: object) -> str:
    """As libpq's ``options`` wants it: a blank ends an argument unless a backslash stands before it."""
    return str(value).replace("\\", "\\\\").replace(" ", "\\ ")


postgresql: Final = ServerPlugin(
    "postgresql",
    PostgresOptions,
    Postgres,
    drivers=("psycopg",),
    install="pip install 'mosaik-raft[postgres]'",
)
