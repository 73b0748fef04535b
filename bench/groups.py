"""Three members under load, next to each other: alternating runs, medians and spread."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.contestant import Contestant, NotRun
from bench.load import Sample, summary

__all__ = ["compare", "table"]

#: Member failures, by contestant, instead of samples.
Results = dict[tuple[str, int], list[Sample]]


async def compare(
    contestants: Sequence[Contestant], outstanding: Sequence[int], *, runs: int, seconds: float
) -> tuple[Results, dict[str, str]]:
    """Measures each contestant in turn, several times over.

    Returns:
        The samples by name and outstanding commands, and by name why somebody was not run.
    """
    results: Results = {}
    not_run: dict[str, str] = {}
    for number in range(runs):
        for contestant in contestants:
            if contestant.name in not_run:
                continue
            with tempfile.TemporaryDirectory(prefix="mosaik-bench-") as directory:
                try:
                    await contestant.start(Path(directory, "data"))
                    for count in outstanding:
                        sample = await contestant.measure(count, seconds, 1.0)
                        results.setdefault((contestant.name, count), []).append(sample)
                        _say(
                            f"run {number + 1}/{runs}: {contestant.name}, {count}: {sample.rate:.0f}/s"
                        )
                except NotRun as reason:
                    not_run[contestant.name] = str(reason)
                finally:
                    await contestant.stop()
    return results, not_run


def table(
    contestants: Sequence[Contestant],
    outstanding: Sequence[int],
    results: Results,
    not_run: dict[str, str],
) -> str:
    """The results as a table in Markdown; every row says how it was measured."""
    lines = [
        "| members | outstanding | commands/s (median, spread) | p50 ms | p99 ms | sync | client | payload |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in outstanding:
        for one in contestants:
            samples = results.get((one.name, count))
            how = f"{one.sync} | {one.client} | {one.payload}"
            if not samples:
                lines.append(
                    f"| {one.name} | {count} | not run: {not_run.get(one.name, '')} | | | {how} |"
                )
                continue
            of = summary(samples)
            failed = f", {of.failed} failed" if of.failed else ""
            rate = f"{of.rate:,.0f} ({of.low:,.0f}-{of.high:,.0f}){failed}"
            lines.append(f"| {one.name} | {count} | {rate} | {of.p50:.2f} | {of.p99:.2f} | {how} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
