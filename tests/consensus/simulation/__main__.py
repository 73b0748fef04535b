"""``python -m tests.consensus.simulation``: runs seeds and says what they came to."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.consensus.simulation.runner import run_seed, run_seeds
from tests.consensus.simulation.runner import summary as new_summary

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the seeds asked for; the exit status is 1 when one broke a rule or all were too tame."""
    parser = argparse.ArgumentParser(prog="python -m tests.consensus.simulation")
    parser.add_argument("--seeds", type=int, help="how many; without, as many as --seconds allow")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seconds", type=float, help="start no seed after so many seconds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hashes", action="store_true", help="print the hash of each seed's trace")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    options = parser.parse_args(arguments)
    if options.seeds is None and options.seconds is None:
        options.seeds = 100
    summary, began = new_summary(), time.monotonic()
    outcomes = (
        (run_seed(seed, sys.stdout) for seed in range(options.start, options.start + options.seeds))
        if options.trace and options.seeds
        else run_seeds(
            run_seed, options.start, options.seeds, seconds=options.seconds, workers=options.workers
        )
    )
    for outcome in outcomes:
        summary.add(outcome)
        if options.hashes:
            print(f"{outcome.seed} {outcome.hash:08x}")
    summary.seconds = time.monotonic() - began
    for line in summary.lines():
        print(line)
    return 0 if summary.passed else 1


if __name__ == "__main__":
    sys.exit(main())
