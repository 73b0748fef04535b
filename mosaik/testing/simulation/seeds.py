"""Many seeds, on several processes, with the means that tell whether they reached anything."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

__all__ = ["ENOUGH", "Outcome", "Summary", "run_seeds"]

#: Fewer seeds than this are too few for means.
ENOUGH: Final = 50


@dataclass
class Outcome:
    """What one seed came to.

    Attributes:
        hash: of all that happened.
        steps: of all cores together.
        counts: what happened, and how often.
        violation: what it found; empty when it found nothing.
    """

    seed: int
    hash: int
    steps: int
    counts: Counter[str]
    violation: str = ""


@dataclass
class Summary:
    """What many seeds came to.

    Attributes:
        required: what must happen once a seed, on average; less, and a run proves too little.
        replay: the command that shows one seed again.
        seconds: real ones.
    """

    required: Sequence[str]
    replay: Callable[[int], str]
    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    failures: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, outcome: Outcome) -> None:
        """Takes one more."""
        self.seeds += 1
        self.steps += outcome.steps
        self.counts.update(outcome.counts)
        if outcome.violation:
            self.failures.append(outcome)

    @property
    def too_tame(self) -> list[str]:
        """What happened less than once a seed, of what must."""
        if self.seeds < ENOUGH:
            return []
        return [name for name in self.required if self.counts[name] < self.seeds]

    @property
    def passed(self) -> bool:
        """No rule was broken, and enough happened."""
        return not self.failures and not self.too_tame

    @property
    def means(self) -> dict[str, float]:
        """How often each thing happened in a seed."""
        return {name: count / max(1, self.seeds) for name, count in sorted(self.counts.items())}

    def lines(self) -> Iterator[str]:
        """A report for people."""
        rate = self.seeds / self.seconds if self.seconds else 0.0
        yield f"{self.seeds} seeds, {self.steps} steps, {rate:.1f} seeds/s; means per seed:"
        for name, mean in self.means.items():
            yield f"  {name:<26}{mean:8.2f}"
        for name in self.too_tame:
            yield f"too tame: {name} happened less than once a seed"
        for failure in self.failures:
            yield f"seed {failure.seed}: {failure.violation}"
            yield f"  replay: {self.replay(failure.seed)}"

    def report(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "seeds": self.seeds,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "means": {name: round(mean, 3) for name, mean in self.means.items()},
            "too_tame": self.too_tame,
            "failures": [
                {
                    "seed": failure.seed,
                    "violation": failure.violation,
                    "hash": f"{failure.hash:08x}",
                    "replay": self.replay(failure.seed),
                }
                for failure in self.failures
            ],
            "passed": self.passed,
        }


def run_seeds(
    run: Callable[[int], Outcome],
    start: int,
    seeds: int | None,
    *,
    seconds: float | None = None,
    workers: int = 2,
) -> Iterator[Outcome]:
    """Runs consecutive seeds, in order.

    Args:
        run: runs one; a function that a worker process can be told by its name.
        start: the first.
        seeds: how many; None for as many as the time allows.
        seconds: start none after so many seconds of real time.
        workers: processes.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    numbers = _until(start, seeds, deadline)
    if workers <= 1:
        yield from map(run, numbers)
        return
    # Forked: starting an interpreter anew costs as much as several seeds.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        # `imap` would read all numbers at once, and the deadline with them.
        yield from _lazily(pool, run, numbers, workers)


def _until(start: int, seeds: int | None, deadline: float) -> Iterator[int]:
    seed = start
    while (seeds is None or seed < start + seeds) and time.monotonic() < deadline:
        yield seed
        seed += 1


def _lazily(
    pool: multiprocessing.pool.Pool,
    run: Callable[[int], Outcome],
    numbers: Iterator[int],
    workers: int,
) -> Iterator[Outcome]:
    """Keeps a few seeds under way per worker, and no more."""
    under_way = [pool.apply_async(run, (seed,)) for seed in islice(numbers, 4 * workers)]
    while under_way:
        yield under_way.pop(0).get()
        following = next(numbers, None)
        if following is not None:
            under_way.append(pool.apply_async(run, (following,)))
