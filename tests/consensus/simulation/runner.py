"""Many seeds, on several processes, with the means that tell whether they reached anything."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TextIO

from tests.consensus.simulation.simulation import Simulation
from tests.consensus.simulation.violation import Violation

__all__ = ["REQUIRED", "Outcome", "Summary", "replay_command", "run_seed", "run_seeds"]

#: What a run must reach once a seed, on average; less, and it proves too little.
REQUIRED: Final = ("elections", "truncations", "changes", "restarts")
#: Fewer seeds than this are too few for means.
ENOUGH: Final = 50


@dataclass
class Outcome:
    """What one seed came to.

    Attributes:
        hash: of its trace.
        violation: what it found; empty when it found nothing.
    """

    seed: int
    hash: int
    steps: int
    counts: Counter[str]
    violation: str = ""


@dataclass
class Summary:
    """What many seeds came to."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    failures: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, outcome: Outcome) -> None:
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
        return [name for name in REQUIRED if self.counts[name] < self.seeds]

    @property
    def passed(self) -> bool:
        return not self.failures and not self.too_tame

    def lines(self) -> Iterator[str]:
        """A report for people."""
        rate = self.seeds / self.seconds if self.seconds else 0.0
        yield f"{self.seeds} seeds, {self.steps} steps, {rate:.1f} seeds/s; means per seed:"
        for name, count in sorted(self.counts.items()):
            yield f"  {name:<22}{count / max(1, self.seeds):8.2f}"
        for name in self.too_tame:
            yield f"too tame: {name} happened less than once a seed"
        for failure in self.failures:
            yield f"seed {failure.seed}: {failure.violation}"
            yield f"  replay: {replay_command(failure.seed)}"


def replay_command(seed: int) -> str:
    """How a person sees one seed's trace."""
    return f"python -m tests.consensus.simulation --start {seed} --seeds 1 --trace"


def run_seed(seed: int, trace: TextIO | None = None) -> Outcome:
    """Runs one seed to its end."""
    simulation = Simulation(seed, trace=trace)
    violation = ""
    try:
        simulation.run()
    except Violation as found:
        violation = f"after {simulation.now:.3f} s: {found}"
    return Outcome(seed, simulation.hash, simulation.steps, simulation.ledger.counts, violation)


def run_seeds(
    start: int, seeds: int | None, *, seconds: float | None = None, workers: int = 2
) -> Iterator[Outcome]:
    """Runs consecutive seeds, in order of completion.

    Args:
        start: the first.
        seeds: how many; None for as many as the time allows.
        seconds: start none after so many seconds of real time.
        workers: processes.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    numbers = _until(start, seeds, deadline)
    if workers <= 1:
        yield from map(run_seed, numbers)
        return
    # Forked: starting an interpreter anew costs as much as several seeds.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        # `imap` would read all numbers at once, and the deadline with them.
        yield from _lazily(pool, numbers, workers)


def _until(start: int, seeds: int | None, deadline: float) -> Iterator[int]:
    seed = start
    while (seeds is None or seed < start + seeds) and time.monotonic() < deadline:
        yield seed
        seed += 1


def _lazily(
    pool: multiprocessing.pool.Pool, numbers: Iterator[int], workers: int
) -> Iterator[Outcome]:
    """Keeps a few seeds under way per worker, and no more."""
    under_way = [pool.apply_async(run_seed, (seed,)) for seed in islice(numbers, 4 * workers)]
    while under_way:
        yield under_way.pop(0).get()
        following = next(numbers, None)
        if following is not None:
            under_way.append(pool.apply_async(run_seed, (following,)))
