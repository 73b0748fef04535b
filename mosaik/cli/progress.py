"""Shows a long run: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mosaik.demo.run import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["open_progress"]


@contextmanager
def open_progress(kills: int) -> Generator[Progress]:
    """A bar where standard error is a terminal and rich is installed, plain lines elsewhere."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bar
    except ImportError:
        yield _Lines()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(
        *columns, TextColumn("kills"), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        yield _Bar(bar, bar.add_task("", total=kills))


class _Bar:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False)

    def show(self, *, acknowledged: int, leader: str, term: int, kills: int) -> None:
        text = f"acknowledged {acknowledged:>7}  leader {leader}  term {term}"
        self._bar.update(self._task, description=text, completed=kills)


class _Lines:
    def __init__(self) -> None:
        self._kills = -1

    def say(self, text: str) -> None:
        sys.stderr.write(text + "\n")

    def show(self, *, acknowledged: int, leader: str, term: int, kills: int) -> None:
        if kills == self._kills:
            return
        self._kills = kills
        self.say(f"kills {kills}  acknowledged {acknowledged}  leader {leader}  term {term}")
