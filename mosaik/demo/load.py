"""A client that keeps commands in flight and knows the fate of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from mosaik.demo.records import Record
from mosaik.groups import Group
from mosaik.machines import Map
from mosaik.primitives.cursor import Applied
from mosaik.primitives.errors import MosaikError, Offline, OutcomeUnknown

__all__ = ["Ledger", "Load"]

#: How long the client waits, at most, before it tries again after nobody took a command. Seconds.
_RETRY: Final = 0.1


class Ledger:
    """What became of every command.

    Attributes:
        sent: every record that was sent, by key.
        acknowledged: the log index at which each was applied.
        unknown: done or not done; never sent again.
        resent: how often a command that was certainly not done was sent again.
        twice: keys whose command found its own value there already: it had been applied before.
    """

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.resent = 0
        self.twice: list[str] = []


class Load:
    """Sends generation after generation until it is told that it is enough, and finishes the last.

    Args:
        group: where to.
        generations: the records of each generation.
        window: how many commands are in flight.
        on_progress: is called after each acknowledgement.
    """

    def __init__(
        self,
        group: Group[Any, Any, Any],
        generations: Iterator[list[Record]],
        *,
        window: int,
        on_progress: Callable[[], None],
    ) -> None:
        self.ledger: Final = Ledger()
        self._group = group
        self._generations = generations
        self._window = window
        self._on_progress = on_progress
        self._queue: deque[Record] = deque(next(generations))
        self._in_flight = 0
        self._refused = False
        self._enough = False
        self._failure: BaseException | None = None
        self._settled = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many commands have no outcome yet."""
        return self._in_flight

    def enough(self) -> None:
        """The present generation is the last."""
        self._enough = True

    async def run(self) -> None:
        """Sends until it is enough and every command's outcome is known.

        Raises:
            MosaikError: something other than a lost leader happened, such as the end of the group.
        """
        while not (self._enough and not self._queue and not self._in_flight):
            if not self._queue and not self._enough:
                self._queue.extend(next(self._generations))
            if self._refused:
                await self._leader_back()
            while self._queue and self._in_flight < self._window and not self._refused:
                self._send(self._queue.popleft())
            if self._in_flight:
                self._settled.clear()
                await self._settled.wait()
            if self._failure is not None:
                raise self._failure

    async def _leader_back(self) -> None:
        """Waits until commands are likely to be taken again."""
        self._refused = False
        await self._group.when().online()
        # Online is what this node believes; a leader that has just died may still be believed in.
        # So the next attempt comes with news of the log, or after a moment.
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY):
                await self._group.when().log().changed()

    def _send(self, record: Record) -> None:
        self.ledger.sent[record.key] = record.value
        self._in_flight += 1
        pending = self._group.execute(Map.Insert(record.key, record.value))
        pending.add_done_callback(lambda future: self._outcome(record, future))

    def _outcome(self, record: Record, future: asyncio.Future[Applied[Any]]) -> None:
        self._in_flight -= 1
        self._settled.set()
        error = future.exception()
        if error is None:
            applied = future.result()
            self.ledger.acknowledged[record.key] = int(applied)
            if applied.result is not None:
                self.ledger.twice.append(record.key)
            self._on_progress()
        elif isinstance(error, Offline):
            # The callbacks of one burst come in the order of sending; resend in that order too.
            self._queue.append(record)
            self.ledger.resent += 1
            self._refused = True
        elif isinstance(error, OutcomeUnknown):
            self.ledger.unknown.add(record.key)
        else:
            self._failure = error if isinstance(error, MosaikError) else MosaikError(repr(error))
