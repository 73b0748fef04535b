"""A closed loop of so many outstanding commands, and what it measured.

Every contestant's client is a process of its own, outside the members, and each keeps exactly as many
commands outstanding as asked: the next one begins when one ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Final

import msgspec

__all__ = ["KEYS", "VALUE", "Loop", "Sample", "Summary", "summary"]

#: Every command puts a value of this size under one of so many keys: about 128 bytes in all.
VALUE: Final = "v" * 112
KEYS: Final = 10_000


class Sample(msgspec.Struct, frozen=True):
    """One measurement.

    Attributes:
        rate: commands acknowledged per second.
        p50, p99: latency in milliseconds.
        failed: commands that did not succeed.
    """

    rate: float
    p50: float
    p99: float
    failed: int = 0

    @classmethod
    def of(cls, latencies: list[float], seconds: float, failed: int = 0) -> Sample:
        """From the latencies (seconds) of all that was acknowledged in some seconds."""
        if len(latencies) < 2:
            return cls(len(latencies) / seconds, float("nan"), float("nan"), failed)
        cuts = quantiles(latencies, n=100)
        return cls(len(latencies) / seconds, cuts[49] * 1000, cuts[98] * 1000, failed)


class Summary(msgspec.Struct, frozen=True):
    """Several samples: medians, and the lowest and highest rate."""

    rate: float
    low: float
    high: float
    p50: float
    p99: float
    failed: int


def summary(samples: list[Sample]) -> Summary:
    """The median of each number, and the spread of the rate."""
    rates = [sample.rate for sample in samples]
    return Summary(
        median(rates),
        min(rates),
        max(rates),
        median(sample.p50 for sample in samples),
        median(sample.p99 for sample in samples),
        sum(sample.failed for sample in samples),
    )


class Loop:
    """Counts what ends between the end of the warm-up and the end of the run.

    Args:
        send: begins the command of a number, and calls ``done(started, succeeded)`` when it ends.
        seconds: how long to measure.
        warm_up: how long to run before that.
    """

    def __init__(self, send: Callable[[int], None], seconds: float, warm_up: float) -> None:
        self._send = send
        self._begin = time.perf_counter() + warm_up
        self._end = self._begin + seconds
        self._seconds = seconds
        self._latencies: list[float] = []
        self._failed = 0
        self._sent = 0
        self._ended = 0

    def start(self, outstanding: int) -> None:
        """Sends the first ones."""
        for _ in range(outstanding):
            self._next()

    def _next(self) -> None:
        self._sent += 1
        self._send(self._sent)

    def done(self, started: float, succeeded: bool) -> None:
        """One command ended; the next one begins, until the time is up."""
        now = time.perf_counter()
        self._ended += 1
        if self._begin <= now < self._end:
            if succeeded:
                self._latencies.append(now - started)
            else:
                self._failed += 1
        if now < self._end:
            self._next()

    @property
    def over(self) -> bool:
        """Whether every command that was sent has ended and no other will be."""
        return self._ended == self._sent and time.perf_counter() >= self._end

    def sample(self) -> Sample:
        """What was measured."""
        return Sample.of(self._latencies, self._seconds, self._failed)
