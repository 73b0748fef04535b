"""Two stores side by side that must always say the same: ``tee+``.

::

    tee+lmdb:///a/b?second=sqlite:///c/d

Every batch goes to both, every question is put to both, and the first answer in which they differ ends it
with a `Difference`. What may differ is left out: a log's store id, which each store draws for itself.

Both have to begin equal, as two new stores do, or one and its copy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from reprlib import Repr
from threading import RLock
from typing import Any, Final, Generic, TypeVar, cast, overload

import msgspec

from mosaik.primitives.cursor import Cursor, IndexRange
from mosaik.primitives.digest import short
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import ConfigError, CorruptEntry, MosaikError, StoragePoisoned
from mosaik.storage import Description, LogIdentity, Storage, StorageEnvironment, SyncMode
from mosaik.storage.registry import open_storage
from mosaik.testing.faults.wrapped import Batches, WrappedEnvironment, WrappedStorage, Wrapper

__all__ = ["Difference", "TeeEnvironment", "TeeOptions", "tee"]

C = TypeVar("C")
T = TypeVar("T")
_shown: Final = Repr()
_shown.maxstring = _shown.maxother = 200


class Difference(StoragePoisoned):
    """Two stores that were told the same answer differently. The opening is poisoned by it.

    Attributes:
        log: the group whose log it is; empty when it is about the store as a whole.
        index: the first index at which they differ; 0 when it is about no entry.
        question: what was asked.
        first, second: the answers; an exception where that was the answer.
    """

    def __init__(
        self, url: str, log: bytes, index: int, question: str, first: object, second: object
    ) -> None:
        where = f"log {short(log)}" if log else "the store"
        at = f" at index {index}" if index else ""
        super().__init__(
            f"two stores differ in {where}{at}: {question} gives {_shown.repr(first)} in the first and "
            f"{_shown.repr(second)} in the second",
            url=url,
        )
        self.log = log
        self.index = index
        self.question = question
        self.first = first
        self.second = second


class TeeStorage(WrappedStorage[C], Generic[C]):
    """One log in both stores.

    Attributes:
        group: whose log it is.
        inner, second: the log in the first and in the second store.
    """

    def __init__(
        self, environment: TeeEnvironment, group: bytes, inner: Storage[C], second: Storage[C]
    ) -> None:
        super().__init__(environment, inner)
        self.group: Final = group
        self.second: Final = second
        self._tee = environment

    def available(self) -> IndexRange:
        return self._both("available()", lambda log: log.available())

    def last(self) -> Cursor:
        return self._both("last()", lambda log: log.last())

    def term_at(self, index: int) -> int | None:
        return self._both(f"term_at({index})", lambda log: log.term_at(index), index)

    def get(self, index: int) -> Entry[C] | None:
        return self._both(f"get({index})", lambda log: log.get(index), index)

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[C]]:
        question = f"get_range({first}, {last}, limit={limit})"
        return self._both(question, lambda log: log.get_range(first, last, limit=limit))

    def retire(self) -> None:
        self._both("retire()", lambda log: log.retire())

    def _both(self, question: str, ask: Callable[[Storage[C]], T], index: int = 0) -> T:
        return self._tee.compare(
            self.group, question, lambda: ask(self.inner), lambda: ask(self.second), index
        )

    def compare_state(self) -> None:
        """Compares what is known of the log without reading it."""
        self._both("hard_state", lambda log: self._normal(log.hard_state))
        self._both("anchor", lambda log: log.anchor)
        self._both("tail", lambda log: log.tail)
        self._both("term_starts", lambda log: list(log.term_starts))
        self._both("snapshot", lambda log: log.snapshot)
        self._both("suspect", lambda log: log.suspect)
        self._both("suspect_term", lambda log: log.suspect_term)

    def second_batch(self, batch: WriteBatch[C]) -> WriteBatch[C]:
        """The batch for the second store, whose log has a store id of its own."""
        state = batch.hard_state
        if state is None or state.store != self.inner.hard_state.store:
            return batch
        own = msgspec.structs.replace(state, store=self.second.hard_state.store)
        return msgspec.structs.replace(batch, hard_state=own)

    def _normal(self, state: HardState) -> HardState:
        if state.store != self.second.hard_state.store:
            return state
        return msgspec.structs.replace(state, store=self.inner.hard_state.store)


class TeeEnvironment(WrappedEnvironment):
    """Puts everything to two stores.

    Args:
        inner: the first, whose answers are given.
        second: the one that it is compared with.
    """

    def __init__(self, inner: StorageEnvironment, second: StorageEnvironment) -> None:
        super().__init__("tee", inner)
        self.second: Final = second
        # Between the two answers to one question nothing may be written.
        self._lock = RLock()

    @property
    def key(self) -> str:
        return f"{super().key}+{self.second.key}"

    @property
    def poisoned(self) -> BaseException | None:
        return super().poisoned or self.second.poisoned

    @overload
    def log(self, identity: LogIdentity, decode: None = None) -> Storage[Any]: ...
    @overload
    def log(self, identity: LogIdentity, decode: Callable[[bytes], C]) -> Storage[C]: ...
    def log(
        self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None
    ) -> Storage[Any]:
        opened: list[Storage[Any]] = []

        def open_in(environment: StorageEnvironment) -> None:
            opened.append(
                environment.log(identity) if decode is None else environment.log(identity, decode)
            )

        with self._lock:
            self.compare(
                identity.group, "log()", lambda: open_in(self.inner), lambda: open_in(self.second)
            )
            log = TeeStorage(self, identity.group, *opened)
            log.compare_state()
        return log

    def logs(self) -> list[LogIdentity]:
        def listed(environment: StorageEnvironment) -> list[LogIdentity]:
            return sorted(environment.logs(), key=lambda each: each.group)

        return self.compare(b"", "logs()", lambda: listed(self.inner), lambda: listed(self.second))

    def commit(self, batches: Batches) -> None:
        with self._lock:
            self.usable()
            logs = [self._mine(log) for log, _ in batches]
            first = [(log.inner, batch) for log, (_, batch) in zip(logs, batches, strict=True)]
            second = [
                (log.second, log.second_batch(batch))
                for log, (_, batch) in zip(logs, batches, strict=True)
            ]
            group = logs[0].group if len(logs) == 1 else b""
            self.compare(
                group, "commit()", lambda: self.write(first), lambda: self.second.commit(second)
            )
            for log in logs:
                log.compare_state()

    def verify(self, log: Storage[Any], report: Callable[[int], None] | None = None) -> None:
        mine = self._mine(log)
        self.compare(
            mine.group,
            "verify()",
            lambda: self.inner.verify(mine.inner, report),
            lambda: self.second.verify(mine.second),
        )

    def describe(self) -> Description:
        first, second = self.inner.describe(), self.second.describe()
        synced = first.sync is second.sync is SyncMode.FULL
        return Description(
            url=f"tee+{first.url} with {second.url}",
            engine=f"{first.engine} and {second.engine}",
            sync=SyncMode.FULL if synced else SyncMode.OS,
            capabilities=first.capabilities & second.capabilities,
            settings={
                **{f"first {name}": value for name, value in first.settings.items()},
                **{f"second {name}": value for name, value in second.settings.items()},
            },
        )

    def idle(self) -> None:
        with self._lock:
            super().idle()
            self.second.idle()

    def release(self) -> None:
        with self._lock:
            try:
                super().release()
            finally:
                self.second.close()

    def compare(
        self,
        group: bytes,
        question: str,
        first: Callable[[], T],
        second: Callable[[], T],
        index: int = 0,
    ) -> T:
        """The answer that both give.

        Raises:
            Difference: they do not. Whatever both raise.
        """
        with self._lock:
            self.usable()
            one, other = _answer(first), _answer(second)
            if _comparable(one) != _comparable(other):
                at = index or _first_difference(one, other)
                url = self.describe().url
                difference = Difference(url, group, at, question, _plain(one), _plain(other))
                self.poison(difference)
                raise difference
        if isinstance(one, _Raised):
            raise one.error
        return one

    def _mine(self, log: Storage[Any]) -> TeeStorage[Any]:
        self.behind(log)
        assert isinstance(log, TeeStorage)
        return log


class _Raised:
    """An answer that is an error."""

    def __init__(self, error: MosaikError) -> None:
        self.error: Final = error

    def __repr__(self) -> str:
        return repr(self.error)


def _answer(ask: Callable[[], T]) -> T | _Raised:
    try:
        return ask()
    except MosaikError as error:
        return _Raised(error)


def _plain(answer: object) -> object:
    return answer.error if isinstance(answer, _Raised) else answer


def _comparable(answer: object) -> object:
    """What of an answer has to be equal: of an error its kind, and the index that it names."""
    if isinstance(answer, _Raised):
        return type(answer.error), _index_of(answer.error)
    if isinstance(answer, Entry):
        return answer.sealed
    if isinstance(answer, list):
        return [_comparable(each) for each in cast("list[object]", answer)]
    return answer


def _first_difference(one: object, other: object) -> int:
    """The first index at which two answers part; 0 when they are not about entries."""
    for answer in (one, other):
        if isinstance(answer, _Raised):
            return _index_of(answer.error)
    if isinstance(one, Anchor) and isinstance(other, Anchor):
        return min(one.index, other.index) + (one.index != other.index)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip_longest(cast("list[object]", one), cast("list[object]", other))
        for pair in pairs:
            if _comparable(pair[0]) != _comparable(pair[1]):
                return next((each.index for each in pair if isinstance(each, Entry)), 0)
    return 0


def _index_of(error: MosaikError) -> int:
    return error.index if isinstance(error, CorruptEntry) else 0


class TeeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a ``tee+`` URL.

    Attributes:
        second: the URL of the second store; what has a meaning in a URL is written as ``%3F``, ``%26``.
    """

    second: str


class _Tee(Wrapper[TeeOptions]):
    """The plugin; it opens the second store as well."""

    def connect(
        self,
        inner: StorageEnvironment,
        options: TeeOptions,
        opened: ExitStack,
        *,
        data_dir: Path | None,
        peer: bytes,
    ) -> TeeEnvironment:
        second = open_storage(options.second, peer=peer, data_dir=data_dir)
        opened.callback(second.close)
        if second.key == inner.key:
            raise ConfigError(f"both stores of the tee are {options.second}; name two")
        return TeeEnvironment(inner, second)


tee: Final = _Tee("tee", TeeOptions)
