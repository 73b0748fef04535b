"""Feeds committed entries to the state machine without ever holding up the event loop.

Theory of operation
-------------------
A million entries may have to be replayed, and ten thousand commands may commit at once, while
heartbeats have to go out every few milliseconds. So entries are applied in chunks, and after `SLICE`
seconds the loop gets its turn. A chunk grows while it is cheap and shrinks when it is not; one single
slow `apply` is all that cannot be divided. Entries come from consensus' memory, or in reads of
`READ_BYTES` from the store's thread. Nothing is read ahead: the thread verifies what it reads, and while
it does so it keeps the interpreter from the event loop, which costs more than the overlap gains.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

import msgspec

from mosaik.groups.sessions import Answer, Expired, Sessions
from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.entry import HEADER_SIZE, Entry, EntryKind
from mosaik.primitives.errors import ApplyError, CodecError, MosaikError
from mosaik.primitives.session import SESSION_MARK, SessionOp, unwrap

__all__ = ["Applier", "Source"]

AnyMachine = StateMachine[Any, Any, Any]

#: Seconds of applying before the event loop gets a turn.
SLICE: Final = 0.002
#: A chunk should take about so many seconds.
_CHUNK: Final = 0.0005
#: Few enough that what a chunk allocates does not set off a garbage collection (700 objects).
_LARGEST_CHUNK: Final = 128
#: Sealed bytes in one read from the store: a millisecond's work for the thread that verifies them.
READ_BYTES: Final = 32 * 1024


def _of_session(entry: Entry[Any]) -> bool:
    sealed = entry.sealed
    return len(sealed) > HEADER_SIZE and sealed[HEADER_SIZE] == SESSION_MARK


class Source(Protocol):
    """Where entries come from."""

    def entries(self, first: int, last: int) -> list[Entry[Any]] | None:
        """Entries from memory; None when not all of them are there."""
        ...

    def fetch(
        self, first: int, last: int, limit: int, done: Callable[[list[Entry[Any]]], None]
    ) -> None:
        """Reads entries from the store and calls ``done`` on the event loop."""
        ...


class Applier:
    """Keeps a state machine up to date.

    Args:
        machine: what entries are applied to.
        group: the group's id, for the machine's context.
        landed: is called with each chunk of applied entries and the results beside them.
        failed: is called once with the error that keeps the machine from going on.
    """

    def __init__(
        self,
        machine: AnyMachine,
        group: bytes,
        landed: Callable[[Sequence[Entry[Any]], Sequence[Any]], None],
        failed: Callable[[MosaikError], None],
    ) -> None:
        self._machine = machine
        self._sessions: Final = Sessions()
        self._group = group
        self._landed = landed
        self._failed = failed
        self._decode = msgspec.msgpack.Decoder(machine.command_type).decode
        # The default loops over `apply`; doing it here names the very entry that raised.
        self._one_by_one = type(machine).apply_batch is AnyMachine.apply_batch
        self._loop = asyncio.get_running_loop()
        self._source: Source | None = None
        self._target = 0
        self._buffer: list[Entry[Any]] = []
        self._reading = False
        self._generation = 0
        self._scheduled = False
        self._stopped = False
        self._chunk = 64
        self.applied = 0
        """The last index that was applied."""
        self.checksum = 0
        """Its checksum, which vouches for all before it."""

    def attach(self, source: Source) -> None:
        """Entries come from here from now on."""
        self._forget()
        self._source = source

    def detach(self) -> None:
        """There is no source; what was applied stays."""
        self._forget()
        self._source = None

    def _forget(self) -> None:
        self._generation += 1
        self._buffer = []
        self._reading = False
        self._target = 0

    def restart(self) -> None:
        """Begins again with an empty machine."""
        self._forget()
        self.applied = self.checksum = 0
        self._machine.reset()
        self._sessions.clear()

    def stop(self) -> None:
        """Applies nothing more."""
        self._stopped = True
        self.detach()

    def advance(self, target: int, began: float | None = None) -> None:
        """Entries up to ``target`` may be applied.

        Args:
            began: when the event loop's present turn began, if something else was done in it.
        """
        if target > self._target:
            self._target = target
        if self._target > self.applied and not self._scheduled:
            self._run(began)

    def _run(self, began: float | None = None) -> None:
        self._scheduled = False
        began = time.perf_counter() if began is None else began
        while self.applied < self._target and not self._stopped:
            chunk = self._next_chunk()
            if not chunk:
                return  # a read is under way
            started = time.perf_counter()
            try:
                results = self._apply(chunk)
            except MosaikError as error:
                self.stop()
                self._failed(error)
                return
            self.applied, self.checksum = chunk[-1].index, chunk[-1].checksum
            self._landed(chunk, results)
            now = time.perf_counter()
            if now - started < _CHUNK / 2:
                self._chunk = min(2 * self._chunk, _LARGEST_CHUNK)
            elif now - started > _CHUNK:
                self._chunk = max(1, self._chunk // 2)
            if now - began > SLICE and self.applied < self._target:
                self._scheduled = True
                self._loop.call_soon(self._run)
                return

    def _next_chunk(self) -> list[Entry[Any]]:
        source = self._source
        if source is None:
            return []
        first = self.applied + 1
        if not self._buffer:
            last = min(self._target, self.applied + self._chunk)
            entries = source.entries(first, last)
            if entries:
                return entries
            self._read(first)
            return []
        chunk, self._buffer = self._buffer[: self._chunk], self._buffer[self._chunk :]
        return chunk

    def _read(self, first: int) -> None:
        if self._reading or self._source is None:
            return
        self._reading = True
        generation = self._generation

        def done(entries: list[Entry[Any]]) -> None:
            if generation == self._generation:
                self._reading = False
                self._buffer.extend(entries)
                if not self._scheduled:
                    self._run()

        self._source.fetch(first, self._target, READ_BYTES, done)

    def _apply(self, entries: Sequence[Entry[Any]]) -> Sequence[Any]:
        """The results beside the entries; None beside those that are not commands.

        Raises:
            ApplyError: the machine raised, or an entry is not a command that it knows.
        """
        commands = [entry for entry in entries if entry.kind is EntryKind.COMMAND]
        if not commands:
            return [None] * len(entries)
        if any(map(_of_session, commands)):
            results: list[Any] = []
            for in_session, following in groupby(commands, _of_session):
                run = list(following)
                results += map(self._apply_once, run) if in_session else self._apply_run(run)
        else:
            results = self._apply_run(commands)
        if len(commands) == len(entries):
            return results
        by_index = {entry.index: result for entry, result in zip(commands, results, strict=True)}
        return [by_index.get(entry.index) for entry in entries]

    def _apply_run(self, entries: Sequence[Entry[Any]]) -> list[Any]:
        """The results of commands."""
        return self._apply_payloads(entries, [entry.sealed[HEADER_SIZE:] for entry in entries])

    def _apply_once(self, entry: Entry[Any]) -> Answer | Expired | None:
        """The answer to a session's command, which may have been applied before; see `Sessions`."""
        sessions, time_ms = self._sessions, entry.time_ms
        try:
            header, payload = unwrap(entry.payload)
        except CodecError as error:
            raise ApplyError(f"entry {entry.index}: {error}", index=entry.index) from error
        assert header is not None
        if header.op is SessionOp.OPEN:
            sessions.open(header.session, time_ms)
            return None
        if header.op is SessionOp.CLOSE:
            sessions.close(header.session)
            return None
        known = sessions.find(header, time_ms)
        if known is None:
            (result,) = self._apply_payloads([entry], [payload])
            known = Answer(entry.index, result)
            sessions.keep(header, known)
        return known

    def _apply_payloads(
        self, entries: Sequence[Entry[Any]], payloads: Sequence[bytes]
    ) -> list[Any]:
        group = self._group
        decoded = self._decoded(entries, payloads)
        work = [
            (command, ApplyContext(Cursor(entry.term, entry.index), entry.time_ms, group))
            for command, entry in zip(decoded, entries, strict=True)
        ]
        return self._apply_each(work) if self._one_by_one else self._apply_many(work)

    def _decoded(self, entries: Sequence[Entry[Any]], payloads: Sequence[bytes]) -> list[Any]:
        commands: list[Any] = []
        try:
            # Extended one by one, so that its length says which one failed.
            commands.extend(map(self._decode, payloads))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            index = entries[len(commands)].index
            raise ApplyError(
                f"entry {index} is not a command that {type(self._machine).__name__} knows: "
                f"{error}. Its signature() has to change when its commands do.",
                index=index,
            ) from error
        return commands

    def _apply_each(self, work: list[tuple[Any, ApplyContext]]) -> list[Any]:
        apply = self._machine.apply
        results: list[Any] = []
        try:
            for command, context in work:
                results.append(apply(command, context))
        except Exception as error:
            index = work[len(results)][1].cursor.index
            raise self._broken(index, index, error) from error
        return results

    def _apply_many(self, work: list[tuple[Any, ApplyContext]]) -> list[Any]:
        first, last = work[0][1].cursor.index, work[-1][1].cursor.index
        try:
            results = self._machine.apply_batch(work)
        except Exception as error:
            raise self._broken(first, last, error) from error
        if len(results) != len(work):
            wrong = ValueError(f"apply_batch gave {len(results)} results for {len(work)} commands")
            raise self._broken(first, last, wrong) from wrong
        return results

    def _broken(self, first: int, last: int, error: Exception) -> ApplyError:
        where = f"entry {first}" if first == last else f"one of the entries {first} to {last}"
        return ApplyError(
            f"{type(self._machine).__name__} raised {type(error).__name__} while it applied {where}: "
            f"{error}. A machine must answer every committed command, with an error value if need be: "
            "correct its apply() at every node, and start them again; the log is kept.",
            index=first,
        )
