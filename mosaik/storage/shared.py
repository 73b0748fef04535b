"""Stores that this process has open: two groups that name the same one share it (rule 8)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, Final, TypeVar, overload

import msgspec

from mosaik.primitives.digest import short
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import ConfigError, StorageClosed, StorageLocked
from mosaik.storage.contract import Description, LogIdentity, Storage, StorageEnvironment

__all__ = ["SharedEnvironment", "share"]

C = TypeVar("C")


class _Opened:
    """An environment and how many use it."""

    __slots__ = ("environment", "options", "peer", "users")

    def __init__(
        self, environment: StorageEnvironment, options: msgspec.Struct, peer: bytes
    ) -> None:
        self.environment: Final = environment
        self.options: Final = options
        self.peer: Final = peer
        self.users = 0


_table: Final[dict[str, _Opened]] = {}
# Held while a store opens, so that two who ask for the same one do not open it twice.
_lock: Final = RLock()


def _disown() -> None:
    # What the parent has open is not the child's; asking for it, the child must meet the parent's lock.
    _table.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_disown)


def share(
    key: str, options: msgspec.Struct, open_: Callable[[], StorageEnvironment], *, peer: bytes
) -> SharedEnvironment:
    """A handle of the store with this key, which is opened if this process has not got it open.

    A poisoned opening is not shared any further, and neither is one that was closed by way of one of its
    logs (`Storage.environment`): who asks next gets a new one.

    Raises:
        ConfigError: it is open here with other options.
        StorageLocked: it is open here for another node.
    """
    with _lock:
        opened = _table.get(key)
        if opened is not None and _is_over(opened.environment):
            opened = None
        if opened is None:
            opened = _Opened(open_(), options, peer)
            _table[key] = opened
        elif opened.peer != peer:
            raise StorageLocked(
                f"node {short(opened.peer)} in this process has this store open; give each node a store "
                f"of its own",
                url=opened.environment.describe().url,
            )
        elif opened.options != options:
            raise ConfigError(
                f"{opened.environment.describe().url} is open in this process with other options: "
                f"{_differences(opened.options, options)}. Groups that share a store give the same ones"
            )
        return SharedEnvironment(key, opened)


def _is_over(environment: StorageEnvironment) -> bool:
    return environment.poisoned is not None or bool(getattr(environment, "closed", False))


def _differences(old: msgspec.Struct, new: msgspec.Struct) -> str:
    before, after = msgspec.structs.asdict(old), msgspec.structs.asdict(new)
    return ", ".join(
        f"{name}={before.get(name)} there and {name}={value} here"
        for name, value in after.items()
        if before.get(name) != value
    )


class SharedEnvironment:
    """One user's handle of an environment; the last one that closes closes the store.

    Attributes:
        shared: the environment itself, the same object for all handles.
    """

    def __init__(self, key: str, opened: _Opened) -> None:
        self._key = key
        self._opened: _Opened | None = opened
        self.shared: Final = opened.environment
        opened.users += 1

    @property
    def key(self) -> str:
        return self._key

    @property
    def poisoned(self) -> BaseException | None:
        return self.shared.poisoned

    @overload
    def log(self, identity: LogIdentity, decode: None = None) -> Storage[Any]: ...
    @overload
    def log(self, identity: LogIdentity, decode: Callable[[bytes], C]) -> Storage[C]: ...
    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> Storage[Any]:
        return self._usable().log(identity, decode)

    def logs(self) -> list[LogIdentity]:
        return self._usable().logs()

    def commit(self, batches: Sequence[tuple[Storage[Any], WriteBatch[Any]]]) -> None:
        self._usable().commit(batches)

    def verify(self, log: Storage[Any], report: Callable[[int], None] | None = None) -> None:
        self._usable().verify(log, report)

    def describe(self) -> Description:
        return self.shared.describe()

    def idle(self) -> None:
        self._usable().idle()

    def close(self) -> None:
        with _lock:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            opened.users -= 1
            if opened.users:
                return
            if _table.get(self._key) is opened:
                del _table[self._key]
            opened.environment.close()

    def _usable(self) -> StorageEnvironment:
        if self._opened is None:
            raise StorageClosed("the store was closed by this user", url=self.describe().url)
        return self.shared

    def __enter__(self) -> SharedEnvironment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SharedEnvironment({self.shared!r})"
