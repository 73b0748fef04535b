"""The plugin of a kind of database server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2s
from pathlib import Path
from typing import Any, Final

import msgspec

from mosaik.primitives.digest import short
from mosaik.primitives.errors import ConfigError
from mosaik.storage.contract import Capability, StorageEnvironment
from mosaik.storage.plugin import EnginePlugin, Layout, Place, Schema
from mosaik.storage.server import Server, ServerOptions
from mosaik.storage.sql_server import ServerEngine, refusal
from mosaik.storage.url import StorageURL

__all__ = ["ServerPlugin"]

#: Seconds; beyond an hour nobody waits any more, and drivers and servers have bounds of their own.
_LONGEST: Final = 3600
#: The options that say which store it is; the others say how to get there.
_WHICH: Final = ("schema", "store")


def _schema(server: Server, url: StorageURL, options: ServerOptions) -> Schema:
    """The tables' version; an opening would migrate them."""
    from sqlalchemy.exc import SQLAlchemyError

    from mosaik.storage import schema

    engine = server.connect(url, options, options.store)
    try:
        with engine.connect() as connection:
            server.enter(connection, url.text())
            return Schema(schema.revision(connection) or "", schema.REVISIONS[-1])
    except SQLAlchemyError as error:
        raise refusal(error, url.text()) from error
    finally:
        engine.dispose()


class ServerPlugin(EnginePlugin[Any]):
    """A plugin for one kind of server. Each node has a store of its own name in the same database.

    Attributes:
        remote: only a whole URL says where it is.

    Args:
        server: makes the `Server`, importing the driver.
    """

    remote: Final = True

    def __init__(
        self,
        scheme: str,
        options: type[ServerOptions],
        server: Callable[[], Server],
        *,
        drivers: Sequence[str],
        install: str,
    ) -> None:
        def connect(place: Place, chosen: ServerOptions) -> ServerEngine:
            return ServerEngine(server(), place.url, chosen)

        super().__init__(
            scheme,
            options,
            connect,
            layout=Layout.NOWHERE,
            capabilities=frozenset(Capability),
            drivers=("sqlalchemy", "alembic", *drivers),
            install=install,
            schema=lambda place, chosen: _schema(server(), place.url, chosen),
        )
        self._server = server

    def open(
        self, url: StorageURL, options: Any, *, data_dir: Path | None, peer: bytes
    ) -> StorageEnvironment:
        """See `EnginePlugin.open`; the store is named after the node unless the URL names it."""
        url, options = self._named(url, options, short(peer))
        return super().open(url, options, data_dir=data_dir, peer=peer)

    def owner(self, url: StorageURL, options: Any, *, data_dir: Path | None) -> bytes:
        """See `EnginePlugin.owner`; the URL has to name the store."""
        from mosaik.storage.identity import read_owner

        del data_dir
        if not options.store:
            raise ConfigError(
                f"{url} is a database that may hold the stores of many nodes; say which one: ?store=…"
            )
        url, options = self._named(url, options, "")
        engine = ServerEngine(self._server(), url, options, make=False)
        try:
            return read_owner(engine, url.text())
        finally:
            engine.close()

    def notes(self, url: StorageURL, data_dir: Path | None) -> Path | None:
        """See `EnginePlugin.notes`: in the node's data directory, named after the store."""
        if data_dir is None:
            return None
        name = blake2s(self.address(url).encode(), digest_size=8).hexdigest()
        return data_dir / f"{self.scheme}-{name}.watermark"

    def address(self, url: StorageURL) -> str:
        """See `EnginePlugin.address`."""
        query = {name: url.query[name] for name in _WHICH if name in url.query}
        return msgspec.structs.replace(url, user="", password="", query=query).text()

    def _named(self, url: StorageURL, options: Any, store: str) -> tuple[StorageURL, Any]:
        from mosaik.storage.schema import STORE_NAME

        if not url.path.strip("/"):
            raise ConfigError(
                f"{url.text()!r} names no database; write {self.scheme}://user@host/database"
            )
        name = options.store or store
        if len(name) > STORE_NAME or not name.isprintable():
            raise ConfigError(f"a store's name has at most {STORE_NAME} printable characters")
        if not (1 <= options.timeout <= _LONGEST and options.patience <= _LONGEST):
            raise ConfigError(
                f"{url}: timeout lies between 1s and {_LONGEST}s, and patience is at most that long"
            )
        query = {**url.query, "store": name}
        return (
            msgspec.structs.replace(url, query=query),
            msgspec.structs.replace(options, store=name),
        )
