"""A store in front of another one: everything passes through, but for what a subclass does otherwise.

A wrapper is found like any backend, by the part of the scheme before a plus: ``slow+lmdb:///…`` is opened by
the plugin ``slow``, which opens ``lmdb:///…`` and stands in front of it. What is wrapped keeps its lock, its
watermark and its identity; a wrapper adds behaviour and no bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar, overload

import msgspec

from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import InvalidBatch, StorageClosed, StoragePoisoned
from mosaik.storage import Capability, Description, LogIdentity, Storage, StorageEnvironment
from mosaik.storage.plugin import API_VERSION
from mosaik.storage.registry import examine_storage, open_storage
from mosaik.storage.shared import share
from mosaik.storage.url import StorageURL

__all__ = ["Batches", "WrappedEnvironment", "WrappedStorage", "Wrapper"]

C = TypeVar("C")
O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741  # options

#: What `StorageEnvironment.commit` is given.
Batches = Sequence[tuple[Storage[Any], WriteBatch[Any]]]


class WrappedStorage(Generic[C]):
    """Implements `Storage`: reads what the log behind it holds, writes through its own environment.

    Attributes:
        inner: the log behind.
    """

    def __init__(self, environment: WrappedEnvironment, inner: Storage[C]) -> None:
        self._environment = environment
        self.inner: Final = inner

    @property
    def environment(self) -> WrappedEnvironment:
        return self._environment

    @property
    def hard_state(self) -> HardState:
        return self.inner.hard_state

    @property
    def anchor(self) -> Anchor:
        return self.inner.anchor

    @property
    def tail(self) -> Anchor:
        return self.inner.tail

    @property
    def term_starts(self) -> Sequence[tuple[int, int]]:
        return self.inner.term_starts

    @property
    def snapshot(self) -> SnapshotRef | None:
        return self.inner.snapshot

    @property
    def suspect(self) -> IndexRange | None:
        return self.inner.suspect

    @property
    def suspect_term(self) -> int:
        return self.inner.suspect_term

    def available(self) -> IndexRange:
        return self.inner.available()

    def last(self) -> Cursor:
        return self.inner.last()

    def term_at(self, index: int) -> int | None:
        return self.inner.term_at(index)

    def get(self, index: int) -> Entry[C] | None:
        self._environment.usable()
        return self.inner.get(index)

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[C]]:
        self._environment.usable()
        return self.inner.get_range(first, last, limit=limit)

    def write(self, batch: WriteBatch[C]) -> None:
        self._environment.commit([(self, batch)])

    def append(self, entries: Sequence[Entry[C]]) -> None:
        self.write(WriteBatch(entries=entries))

    def truncate(self, at: int) -> None:
        self.write(WriteBatch(truncate_from=at))

    def prune_prefix(self, up_to: int) -> None:
        self.write(WriteBatch(prune_to=up_to))

    def reset_to(self, anchor: Anchor) -> None:
        self.write(WriteBatch(reset_to=anchor))

    def retire(self) -> None:
        self._environment.usable()
        self.inner.retire()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"


class WrappedEnvironment:
    """Implements `StorageEnvironment` over another one.

    A subclass overrides `write`, and calls `poison` where a disk would fail.

    Args:
        scheme: of the wrapper.
        inner: what it stands in front of, and closes.
    """

    def __init__(self, scheme: str, inner: StorageEnvironment) -> None:
        self.scheme: Final = scheme
        self.inner: Final = inner
        self._poison: BaseException | None = None
        self._closed = False

    @property
    def key(self) -> str:
        # Not that of the store behind it: who opens that one directly does not get the wrapper.
        return f"{self.scheme}+{self.inner.key}"

    @property
    def poisoned(self) -> BaseException | None:
        return self._poison or self.inner.poisoned

    @overload
    def log(self, identity: LogIdentity, decode: None = None) -> Storage[Any]: ...
    @overload
    def log(self, identity: LogIdentity, decode: Callable[[bytes], C]) -> Storage[C]: ...
    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> Storage[Any]:
        self.usable()
        # Two calls because an overload is chosen by the caller's argument, and None is one of them.
        inner = self.inner.log(identity) if decode is None else self.inner.log(identity, decode)
        return WrappedStorage(self, inner)

    def logs(self) -> list[LogIdentity]:
        self.usable()
        return self.inner.logs()

    def commit(self, batches: Batches) -> None:
        self.usable()
        self.write([(self.behind(log), batch) for log, batch in batches])

    def write(self, batches: Batches) -> None:
        """Commits batches of logs of the store behind."""
        self.inner.commit(batches)

    def verify(self, log: Storage[Any], report: Callable[[int], None] | None = None) -> None:
        self.usable()
        self.inner.verify(self.behind(log), report)

    def describe(self) -> Description:
        inner = self.inner.describe()
        return msgspec.structs.replace(inner, url=f"{self.scheme}+{inner.url}")

    def idle(self) -> None:
        self.usable()
        self.inner.idle()

    def close(self) -> None:
        self._closed = True
        self.release()

    def release(self) -> None:
        """Lets go of the store behind. Twice does nothing more."""
        self.inner.close()

    def behind(self, log: Storage[Any]) -> Storage[Any]:
        """The log that a log of this store stands in front of.

        Raises:
            InvalidBatch: it is another store's.
        """
        if not isinstance(log, WrappedStorage) or log.environment is not self:
            raise InvalidBatch(f"{log!r} is not a log of this store", url=self.describe().url)
        return log.inner

    def usable(self) -> None:
        """Raises `StoragePoisoned` after `poison`, and `StorageClosed` after `close`."""
        if self._poison is not None:
            raise self._unknown() from self._poison
        if self._closed:
            raise StorageClosed("the store is closed", url=self.describe().url)

    def poison(self, error: Exception) -> StoragePoisoned:
        """Ends this opening as a failed write does, and lets go of the store behind, so that it can be
        opened anew; answers what is to be raised."""
        self._poison = error
        self.release()
        poisoned = self._unknown()
        poisoned.__cause__ = error
        return poisoned

    def _unknown(self) -> StoragePoisoned:
        return StoragePoisoned(f"{self._poison}; open the store again", url=self.describe().url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "poisoned" if self._poison else "closed" if self._closed else "open"
        return f"{type(self).__name__}({self.inner!r}, {state})"


class Wrapper(Generic[O]):
    """Implements `WrapperPlugin`.

    Args:
        scheme: what stands before the plus, and the name of the entry point.
        options: the frozen struct of the wrapper's own options.
        wrap: stands in front of a store; not needed where `connect` is overridden.
    """

    wraps: Final = True
    capabilities: Final[frozenset[Capability]] = frozenset()
    drivers: Final[Sequence[str]] = ()
    install: Final = ""
    api_version: Final = API_VERSION

    def __init__(
        self,
        scheme: str,
        options: type[O],
        wrap: Callable[[StorageEnvironment, O], WrappedEnvironment] | None = None,
    ) -> None:
        self.scheme: Final = scheme
        self.options: Final = options
        self._wrap = wrap

    def open(
        self, url: StorageURL, options: O, *, data_dir: Path | None, peer: bytes
    ) -> StorageEnvironment:
        """Opens the store behind and stands in front of it; two openings in one process share both."""
        with ExitStack() as opened:
            inner = open_storage(url, peer=peer, data_dir=data_dir)
            opened.callback(inner.close)
            made = self.connect(inner, options, opened, data_dir=data_dir, peer=peer)
            shared = share(made.key, options, lambda: made, peer=peer)
            if shared.shared is made:
                opened.pop_all()  # they are closed with it
        return shared

    def connect(
        self,
        inner: StorageEnvironment,
        options: O,
        opened: ExitStack,
        *,
        data_dir: Path | None,
        peer: bytes,
    ) -> WrappedEnvironment:
        """Makes the environment, which owns what it is given unless it turns out that there is one.

        Args:
            opened: closes what was opened for it, in that case.
        """
        del opened, data_dir, peer
        return self._wrap(inner, options) if self._wrap else WrappedEnvironment(self.scheme, inner)

    def examine(self, url: StorageURL, *, data_dir: Path | None) -> None:
        """Looks at the store behind; see `mosaik.storage.examine_storage`."""
        examine_storage(url, data_dir=data_dir)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scheme!r})"
