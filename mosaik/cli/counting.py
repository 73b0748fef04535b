"""Shows how far a long piece of work is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["Count", "counting"]

#: Called with how much was done since the last call.
Count = Callable[[int], None]
#: Seconds between two lines.
_PAUSE: Final = 5.0


@contextmanager
def counting(what: str, total: int | None, unit: str = "entries") -> Generator[Count]:
    """Shows progress on standard error while the block runs.

    Args:
        what: is done, as in ``verifying``.
        total: how much there is of it; None where that shows only at the end.
        unit: what is counted.
    """
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield _lines(what, total, unit)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn(unit), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(what: str, total: int | None, unit: str) -> Count:
    done, told = 0, time.monotonic()

    def report(count: int) -> None:
        nonlocal done, told
        done += count
        if (now := time.monotonic()) - told >= _PAUSE:
            told = now
            of = "" if total is None else f" of {total:,}"
            sys.stderr.write(f"{what}: {done:,}{of} {unit}\n")

    return report
