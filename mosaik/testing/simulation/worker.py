"""The writer of a store without a thread: its commits take virtual time."""

from __future__ import annotations

from functools import partial
from queue import Empty
from typing import Final

from mosaik.storage.contract import StorageEnvironment
from mosaik.storage.writer import IDLE, Job, Stop, Worker, Write
from mosaik.testing.simulation.disk import SimEnvironment
from mosaik.testing.simulation.scheduler import Scheduler

__all__ = ["SimWorker"]

#: Virtual seconds that a job takes which is not a commit.
_JOB: Final = 0.0003


class SimWorker(Worker):
    """What the shipped worker does, driven by a scheduler.

    Attributes:
        store: its environment.
        writing: the transaction that is under way.
    """

    def __init__(self, environment: StorageEnvironment) -> None:
        assert isinstance(environment, SimEnvironment)
        super().__init__(environment)
        self.writing: list[Write] | None = None
        self.dead = False
        self._busy = False
        self._worked = 0.0
        self._node: Final = environment.node
        self._scheduler: Final[Scheduler] = environment.node.scheduler
        environment.node.worker = self
        self.store: Final = environment

    def start(self) -> None:
        """It begins when there is something to do."""

    def submit(self, item: Write | Job | Stop) -> None:
        super().submit(item)
        if not self._busy:
            self._busy = True
            self._scheduler.soon(self._next_item)

    def _next_item(self) -> None:
        if self.dead:
            return
        item, self.left = self.left, None
        if item is None:
            try:
                item = self.queue.get_nowait()
            except Empty:
                self._busy, self._worked = False, self._scheduler.now
                self._scheduler.after(IDLE, partial(self._rest, self._worked))
                return
        if isinstance(item, Stop):
            self.dead = True
        elif isinstance(item, Job):
            self._scheduler.after(_JOB, partial(self._done, item))
        else:
            self.writing = self.gather(item)
            self._scheduler.after(self._node.disk_delay(), self._landed)

    def _done(self, job: Job) -> None:
        if not self.dead:
            self.work(job)
            self._scheduler.soon(self._next_item)

    def _landed(self) -> None:
        if not self.dead and self.writing is not None:
            writes, self.writing = self.writing, None
            self.commit(writes)
            self._scheduler.soon(self._next_item)

    def _rest(self, since: float) -> None:
        if not (self.dead or self._busy) and self._worked == since and not self.store.closed:
            self.idle()
