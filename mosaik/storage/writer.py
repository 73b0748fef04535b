"""The writer thread: everything that blocks, off the event loop.

Theory of operation
-------------------
One thread serves one store, whichever groups use it. What arrives while it commits waits, and is then
taken together: as many batches as fit `MAX_TRANSACTION` become one transaction with one sync. Group
commit needs no timer; a slow disk makes larger transactions by being slow.

The order in which things were submitted is kept, reads and other jobs included, and a log has at most
one batch in a transaction. A transaction that was refused before it began (a batch that does not fit, a
full disk) is repeated batch by batch, so that it fails for those that are to blame. A poisoned store
fails everything from then on.

Completions go back to the loop they came from, all of a transaction in one wake-up, and are called there.
When nothing has been submitted for `IDLE` seconds the store may do what may be late (`idle`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, NamedTuple, Self, TypeVar

from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.errors import (
    CorruptEntry,
    InvalidBatch,
    MosaikError,
    StorageClosed,
    StorageError,
    StorageFull,
    StoragePoisoned,
)
from mosaik.storage.contract import Storage, StorageEnvironment
from mosaik.storage.shared import SharedEnvironment

__all__ = ["IDLE", "MAX_TRANSACTION", "Job", "Stop", "Worker", "Write", "Writer"]

T = TypeVar("T")
_logger = logging.getLogger(__name__)

#: Sealed bytes of one transaction, unless a single batch is larger.
MAX_TRANSACTION: Final = 1 << 20
#: Seconds without work after which `StorageEnvironment.idle` is called.
IDLE: Final = 0.1

#: These say that nothing of the transaction was written.
_REFUSALS: Final = (InvalidBatch, StorageFull, CorruptEntry)


class Write(NamedTuple):
    """A batch to commit."""

    log: Storage[Any]
    batch: WriteBatch[Any]
    loop: asyncio.AbstractEventLoop
    done: Callable[[Any], None]


class Job(NamedTuple):
    """Something else to do."""

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    done: Callable[[Any], None]


class Stop(NamedTuple):
    """Nothing comes after this."""


Item = Write | Job | Stop


class Worker:
    """The thread of one store. A simulation puts a worker without a thread in its place.

    Attributes:
        environment: the store.
        users: how many writers stand on it.
        queue: what is to be done.
        left: what was taken from the queue and did not fit the transaction; it comes first.
    """

    def __init__(self, environment: StorageEnvironment) -> None:
        self.environment: Final = environment
        self.users = 0
        self.queue: Final[SimpleQueue[Item]] = SimpleQueue()
        self.left: Item | None = None

    def start(self) -> None:
        """Begins to work."""
        # A daemon: a process that forgot to close its stores can still end. What was not acknowledged
        # then is lost, as in any crash.
        name = f"mosaik-writer {self.environment.key}"
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, item: Item) -> None:
        """Has something done after all that was submitted before."""
        self.queue.put(item)

    def _run(self) -> None:
        while not isinstance(item := self._next(), Stop):
            if isinstance(item, Job):
                self.work(item)
            else:
                self.commit(self.gather(item))

    def _next(self) -> Item:
        item, self.left = self.left, None
        if item is not None:
            return item
        try:
            return self.queue.get(timeout=IDLE)
        except Empty:
            self.idle()
            return self.queue.get()

    def idle(self) -> None:
        """Lets the store do what may be late."""
        if self.environment.poisoned is None:
            try:
                self.environment.idle()
            except MosaikError as error:
                _logger.warning("%s: %s", self.environment.key, error)

    def work(self, job: Job) -> None:
        """Does a job and hands its outcome over."""
        _deliver([(job, _outcome(job.work))])

    def gather(self, first: Write) -> list[Write]:
        """What waits behind the first write and can go with it."""
        writes, logs, size = [first], {id(first.log)}, _size(first)
        while size < MAX_TRANSACTION:
            try:
                item = self.queue.get_nowait()
            except Empty:
                break
            if isinstance(item, Write) and id(item.log) not in logs:
                size += _size(item)
                if size <= MAX_TRANSACTION:
                    writes.append(item)
                    logs.add(id(item.log))
                    continue
            self.left = item
            break
        return writes

    def commit(self, writes: list[Write]) -> None:
        """Commits writes in one transaction and hands their outcomes over."""
        error = self._try(writes)
        if len(writes) > 1 and isinstance(error, _REFUSALS) and self.environment.poisoned is None:
            # Each for itself, so that it fails who is to blame.
            _deliver([(write, self._try([write])) for write in writes])
        else:
            _deliver([(write, error) for write in writes])

    def _try(self, writes: list[Write]) -> StorageError | None:
        batches = [(write.log, write.batch) for write in writes]
        error = _outcome(lambda: self.environment.commit(batches))
        if error is None or isinstance(error, StorageError):
            return error
        # Somebody's own exception out of a commit: nobody knows what is on the disk.
        poisoned = StoragePoisoned(f"the storage backend failed: {error!r}")
        poisoned.__cause__ = error
        return poisoned


def _size(write: Write) -> int:
    return sum([len(entry.sealed) for entry in write.batch.entries])


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # it is handed to whoever asked
        return error


def _deliver(completions: list[tuple[Write | Job, Any]]) -> None:
    """Hands outcomes to the loops that they are for, in one wake-up each."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Callable[[Any], None], Any]]] = {}
    for item, outcome in completions:
        by_loop.setdefault(item.loop, []).append((item.done, outcome))
    for loop, calls in by_loop.items():
        try:
            loop.call_soon_threadsafe(_call, loop, calls)
        except RuntimeError:
            _logger.debug("%d outcomes came after their event loop had closed", len(calls))


def _call(loop: asyncio.AbstractEventLoop, calls: list[tuple[Callable[[Any], None], Any]]) -> None:
    for done, outcome in calls:
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001  # one callback's fault is not the next one's
            message = f"a storage completion raised: {done!r}"
            loop.call_exception_handler({"message": message, "exception": error})


workers: Final[dict[int, Worker]] = {}
_lock: Final = Lock()


class Writer:
    """One user's way to the thread of a store; all users of a store share the thread.

    Used on an event loop. Callbacks are called on the loop that submitted.

    Args:
        environment: the store.
        owned: `close` closes it.
    """

    def __init__(self, environment: StorageEnvironment, *, owned: bool = False) -> None:
        self.environment: Final = environment
        self._owned = owned
        inner = environment.shared if isinstance(environment, SharedEnvironment) else environment
        self._inner = inner
        self._closed = False
        with _lock:
            worker = workers.get(id(inner))
            if worker is None:
                worker = workers[id(inner)] = Worker(inner)
                worker.start()
            worker.users += 1
        self._worker = worker

    @classmethod
    async def open(cls, opener: Callable[[], StorageEnvironment]) -> Self:
        """Opens a store off the loop and gives its writer, which closes it.

        Raises:
            Whatever the opener raises.
        """
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, opener)
        try:
            environment = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: the store opens all the same, and is closed when it has.
            opening.add_done_callback(
                lambda opened: (
                    None
                    if opened.cancelled() or opened.exception()
                    else loop.run_in_executor(None, opened.result().close)
                )
            )
            raise
        return cls(environment, owned=True)

    def write(
        self,
        log: Storage[Any],
        batch: WriteBatch[Any],
        done: Callable[[StorageError | None], None],
    ) -> None:
        """Commits a batch; ``done`` gets None when it is durable, or why it is not.

        `InvalidBatch`, `StorageFull` and `CorruptEntry` mean that nothing of it was written;
        `StoragePoisoned` that nobody knows.

        Raises:
            StorageClosed: this writer was closed.
        """
        self._submit(Write(log, batch, asyncio.get_running_loop(), done))

    def run(self, work: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Does something else that blocks, such as a read, after all that was submitted before it.

        Raises:
            StorageClosed: this writer was closed.
        """
        self._submit(Job(work, asyncio.get_running_loop(), done))

    async def call(self, work: Callable[[], T]) -> T:
        """The result of something that blocks, done in order.

        Raises:
            Whatever it raises. `StorageClosed`: this writer was closed.
        """
        return await self._ask(work)

    def _ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(outcome: T | Exception) -> None:
            if future.done():
                return
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.run(work, done)
        return future

    async def close(self) -> None:
        """Waits for what was submitted; then closes the store if it is owned, and the thread if
        nobody else uses it. Closing twice does nothing."""
        if self._closed:
            return
        closing = self._ask(self.environment.close if self._owned else _nothing)
        self._closed = True
        with _lock:
            self._worker.users -= 1
            if not self._worker.users:
                self._worker.submit(Stop())
                del workers[id(self._inner)]
        await asyncio.shield(closing)

    def _submit(self, item: Write | Job) -> None:
        if self._closed:
            raise StorageClosed("the writer of this store was closed")
        self._worker.submit(item)


def _nothing() -> None:
    """The last job of a writer that does not own its store."""
