"""The tables of ``docs/simulation.md``; ``python -m tests.simulation.page`` prints them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from mosaik.testing.simulation import FAULTS
from tests.simulation.bugs import BUGS

__all__ = ["bugs", "faults"]


def bugs() -> Iterator[str]:
    """The planted bugs, each with the rules of which one must notice it."""
    yield "| planted bug | found by one of | within seeds |"
    yield "|---|---|---|"
    for bug in BUGS:
        rules = ", ".join(sorted(rule.value for rule in bug.finds))
        meaning = (inspect.getdoc(bug.plant) or "").partition("\n")[0]
        words = f"{bug.name}: {meaning}" if meaning else bug.name
        yield f"| {words} | {rules} | {bug.seeds} |"


def faults() -> Iterator[str]:
    """The faults with the mean time between two of a kind."""
    yield "| fault | every so many virtual seconds |"
    yield "|---|---|"
    for name, mean in FAULTS.items():
        yield f"| {name} | {mean / 2:g} to {mean * 2:g} |"


if __name__ == "__main__":
    print("\n".join([*faults(), "", *bugs()]))
