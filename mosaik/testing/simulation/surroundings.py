"""What the shipped code asks its surroundings for, answered by the simulation while it runs.

The core takes time and chance as arguments. The driver around it asks the system: for the time, for random
bytes, for a thread to write with, for a store by its URL. All of that is here, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from mosaik.consensus import Consensus
from mosaik.groups import opening, running
from mosaik.storage import writer
from mosaik.storage.contract import StorageEnvironment
from mosaik.testing.simulation.loop import VirtualLoop
from mosaik.testing.simulation.scheduler import Scheduler
from mosaik.testing.simulation.worker import SimWorker

__all__ = ["Surroundings", "surrounded"]

#: What the calendar says when nobody's clock is asked: some day in 2026.
EPOCH_MS: Final = 1_790_000_000_000


class Surroundings(Protocol):
    """Whoever runs the simulation."""

    @property
    def scheduler(self) -> Scheduler: ...

    @property
    def entropy(self) -> random.Random: ...

    @property
    def core(self) -> Callable[..., Consensus]:
        """What makes a replica's core."""
        ...

    def open_storage(self, url: str, **_: Any) -> StorageEnvironment:
        """Opens the store of a node."""
        ...


def _loop() -> VirtualLoop | None:
    loop = asyncio._get_running_loop()  # get_running_loop() raises where there is none
    return loop if isinstance(loop, VirtualLoop) else None


@contextmanager
def surrounded(by: Surroundings) -> Generator[None]:
    """Answers from the simulation until it is left."""

    def seconds() -> float:
        loop = _loop()
        return loop.time() if loop is not None else by.scheduler.now

    def calendar_ms() -> int:
        loop = _loop()
        return loop.calendar_ms() if loop is not None else EPOCH_MS + int(by.scheduler.now * 1000)

    replaced: list[tuple[Any, str, Any]] = [
        (time, "monotonic", seconds),
        (time, "perf_counter", seconds),
        (time, "time_ns", lambda: calendar_ms() * 1_000_000),
        (time, "time", lambda: calendar_ms() / 1000),
        (os, "urandom", by.entropy.randbytes),
        (writer, "Worker", SimWorker),
        (opening, "open_storage", by.open_storage),
        (running, "Consensus", by.core),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    chance, disabled = random.getstate(), logging.root.manager.disable
    workers = dict(writer.workers)
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        random.seed(by.entropy.random())
        logging.disable(logging.CRITICAL)  # thousands of faults are not news
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        random.setstate(chance)
        logging.disable(disabled)
        writer.workers.clear()
        writer.workers.update(workers)
