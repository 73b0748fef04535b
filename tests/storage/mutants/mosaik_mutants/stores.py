"""Stores with one thing wrong above their engine."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.errors import CorruptEntry, InvalidBatch
from mosaik.storage import (
    Capability,
    EnginePlugin,
    LogIdentity,
    Storage,
    StorageEnvironment,
    StorageURL,
    SyncMode,
)
from mosaik.storage.log import EngineLog
from mosaik.storage.opening import Beside, engine_environment
from mosaik.storage.plugin import Place
from mosaik.storage.rows import HEAD_SIZE, all_rows

from .engines import Buffers, DropsAfterDamage, FallsBack, Trusts
from .journal import JournalEngine, Options

_HEADER = struct.Struct(">BBHIQQQII")


class Log:
    """Stands for a log."""

    def __init__(self, inner: EngineLog[Any], environment: Environment) -> None:
        self.inner = inner
        self.environment = environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, batch: WriteBatch[Any]) -> None:
        self.environment.commit([(self, batch)])

    def append(self, entries: Sequence[Entry[Any]]) -> None:
        self.write(WriteBatch(entries=entries))


class Environment:
    """Stands for an environment."""

    log_type: type[Log] = Log

    def __init__(self, inner: StorageEnvironment) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def log(self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None) -> Any:
        return self.log_type(self.inner.log(identity, decode), self)  # type: ignore[arg-type]

    def commit(self, batches: Sequence[tuple[Any, WriteBatch[Any]]]) -> None:
        self.inner.commit([(getattr(log, "inner", log), batch) for log, batch in batches])

    def verify(self, log: Any, report: Callable[[int], None] | None = None) -> None:
        self.inner.verify(getattr(log, "inner", log), report)


class Plugin(EnginePlugin[Options]):
    """A journal below, something wrong above."""

    def __init__(
        self,
        scheme: str,
        above: type[Environment] = Environment,
        engine: type[JournalEngine] = JournalEngine,
        *,
        lock: bool = True,
        watermark: bool = True,
    ) -> None:
        def connect(place: Place, _options: Options) -> JournalEngine:
            assert place.path is not None
            return engine(place.path)

        super().__init__(scheme, Options, connect, capabilities=frozenset(Capability))
        self.above = above
        self.lock = lock
        self.watermark = watermark

    def open(self, url: StorageURL, options: Options, *, data_dir: Path | None, peer: bytes) -> Any:
        if self.lock and self.watermark:
            return self.above(super().open(url, options, data_dir=data_dir, peer=peer))
        path = Path(url.path)
        path.mkdir(parents=True, exist_ok=True)
        beside = Beside(path / f"lock.{os.getpid()}", path / "mosaik.watermark")
        return engine_environment(
            lambda: self.connect(Place(url=url, path=path), options),
            key=f"{self.scheme}:{path}",
            url=str(url),
            peer=peer,
            beside=beside if self.watermark else None,
        )


class AcceptsGaps(Environment):
    """Takes entries that do not follow the log, and leaves them out."""

    def commit(self, batches: Sequence[tuple[Any, WriteBatch[Any]]]) -> None:
        try:
            super().commit(batches)
        except InvalidBatch:
            if not all(self._gap(log, batch) for log, batch in batches):
                raise

    @staticmethod
    def _gap(log: Storage[Any], batch: WriteBatch[Any]) -> bool:
        return bool(batch.entries) and batch.entries[0].index > log.tail.index + 1


class TakesSecondVotes(Environment):
    """Forgets for whom it has voted in a term when it is asked again."""

    def commit(self, batches: Sequence[tuple[Any, WriteBatch[Any]]]) -> None:
        try:
            super().commit(batches)
        except InvalidBatch:
            log, batch = batches[0]
            state = batch.hard_state
            if state is None or state.term != log.hard_state.term or batch.entries:
                raise
            super().commit([(log, replace(batch, hard_state=None))])


class UnpagedLog(Log):
    """Gives all that was asked for, however much that is."""

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[Any]]:
        del limit
        return self.inner.get_range(first, last)


class Unpaged(Environment):
    """Knows no limit."""

    log_type = UnpagedLog


class HoldsBack(Environment):
    """Lets the second half of a batch be seen when the next one comes."""

    def __init__(self, inner: StorageEnvironment) -> None:
        super().__init__(inner)
        self.held: dict[bytes, tuple[Any, Sequence[Entry[Any]]]] = {}

    def commit(self, batches: Sequence[tuple[Any, WriteBatch[Any]]]) -> None:
        for log, batch in batches:
            group = log.inner.identity.group
            waiting = self.held.pop(group, (log, ()))[1]
            half = len(batch.entries) // 2
            shown = [*waiting, *batch.entries[: len(batch.entries) - half]]
            self.held[group] = (log, batch.entries[len(batch.entries) - half :])
            super().commit([(log, replace(batch, entries=shown))])

    def close(self) -> None:
        for log, waiting in self.held.values():
            super().commit([(log, WriteBatch(entries=waiting))])
        self.held.clear()
        self.inner.close()


class CutsSuspects(Environment):
    """Removes what is suspect while it still says that it is."""

    def log(self, identity: LogIdentity, decode: Callable[[bytes], Any] | None = None) -> Any:
        log = super().log(identity, decode)
        log.suspect = log.inner.suspect
        if log.suspect is not None:
            log.write(WriteBatch(truncate_from=log.suspect.start))
        return log


class UncheckedLog(Log):
    """Serves an entry whose checksum is wrong."""

    def get_range(self, first: int, last: int, *, limit: int | None = None) -> list[Entry[Any]]:
        try:
            return self.inner.get_range(first, last, limit=limit)
        except CorruptEntry:
            return [entry for entry in self._unchecked() if first <= entry.index <= last]

    def _unchecked(self) -> list[Entry[Any]]:
        found: list[Entry[Any]] = []
        inner: Any = self.inner
        with inner.environment.reading(inner.slot) as rows:
            for blob in [blob for run in all_rows(rows) for _, blob in run]:
                at = HEAD_SIZE
                while at < len(blob):
                    _, kind, _, size, index, term, time, previous, checksum = _HEADER.unpack_from(
                        blob, at
                    )
                    sealed = blob[at : at + _HEADER.size + size]
                    found.append(
                        Entry(index, term, EntryKind(kind), time, previous, checksum, sealed)
                    )
                    at += len(sealed)
        return found


class Unchecked(Environment):
    """Serves entries whose checksums are wrong."""

    log_type = UncheckedLog


class Careless(Plugin):
    """Has files of its own, and lets everybody have the system's errors."""

    def open(self, url: StorageURL, options: Options, *, data_dir: Path | None, peer: bytes) -> Any:
        Path(url.path).mkdir(exist_ok=True)
        with ExitStack() as notes:
            for name in "abcdef":
                notes.enter_context((Path(url.path) / name).open("a"))
        return super().open(url, options, data_dir=data_dir, peer=peer)


class SyncOptions(Struct, frozen=True):
    """As the built-in backends have it."""

    sync: SyncMode = SyncMode.FULL


def _connect_unsynced(place: Place, options: SyncOptions) -> JournalEngine:
    """Without syncs, a commit waits for the next one."""
    assert place.path is not None
    return (Buffers if options.sync is SyncMode.OS else JournalEngine)(place.path)


accepts_gaps = Plugin("journal-accepts-gaps", AcceptsGaps)
admits_all = Plugin("journal-admits-all", lock=False)
buffers_unsynced = EnginePlugin(
    "journal-buffers-unsynced",
    SyncOptions,
    _connect_unsynced,
    capabilities=frozenset(Capability),
)
careless = Careless("journal-careless")
cuts_suspects = Plugin("journal-cuts-suspects", CutsSuspects, Trusts)
falls_back = Plugin("journal-falls-back", engine=FallsBack, watermark=False)
holds_back = Plugin("journal-holds-back", HoldsBack)
keeps_no_mark = Plugin("journal-keeps-no-mark", engine=DropsAfterDamage, watermark=False)
takes_second_votes = Plugin("journal-takes-second-votes", TakesSecondVotes)
unpaged = Plugin("journal-unpaged", Unpaged)
unchecked = Plugin("journal-unchecked", Unchecked, Trusts)
