"""What a kind of database server has to say for the engine of `mosaik.storage.sql_server`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mosaik.storage.url import Seconds, StorageURL

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Executable, Table

__all__ = ["Server", "ServerOptions", "Settings"]


class ServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of every server's URL.

    Attributes:
        store: the name of the store within the database; the node's id when it is not given.
        patience: how long to wait for the lock of a session that may be dead.
        timeout: how long to wait for the server's answer before it is taken for lost.
    """

    store: str = ""
    patience: Seconds = Seconds(3)
    timeout: Seconds = Seconds(30)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself.

    Attributes:
        engine: its name and version.
        values: the settings that durability rests on.
        kill_safe: a commit survives the death of the server's processes.
        power_safe: and that of its machine.
    """

    engine: str
    values: Mapping[str, str]
    kill_safe: bool
    power_safe: bool


class Server(Protocol):
    """What differs between one kind of server and the next."""

    def connect(self, url: StorageURL, options: Any, store: str) -> Engine:
        """An SQLAlchemy engine that has not connected yet."""
        ...

    def enter(self, connection: Connection, url: str) -> str:
        """Makes a new session fit for a store.

        Returns:
            Where its tables are, as the server calls it: the same however the URL is spelt.

        Raises:
            StorageUnavailable: there is no such place.
        """
        ...

    def lock(self, connection: Connection, name: str) -> bool:
        """Tries to get the lock of this name for the session."""
        ...

    def unlock(self, connection: Connection, name: str) -> None:
        """Gives it back."""
        ...

    def holder(self, connection: Connection, name: str) -> str:
        """Who has the lock, for people; empty when that cannot be told."""
        ...

    def upsert(self, table: Table) -> Executable:
        """An insertion that replaces the row of the same key."""
        ...

    def settings(self, connection: Connection, url: str) -> Settings:
        """Reads the settings back, once the tables are there.

        Raises:
            StorageUnavailable: no store can be kept under them.
        """
        ...

    def is_full(self, error: BaseException) -> bool:
        """Whether the driver's error says that there is no room."""
        ...
