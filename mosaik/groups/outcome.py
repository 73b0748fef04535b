"""What a caller waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Consistency", "Pending"]

T = TypeVar("T")


class Consistency(StrEnum):
    """What a query's answer may miss.

    ``WEAK`` answers from this node's state at once, even while it is cut off. ``STRONG`` answers from
    a state that holds every command that was acknowledged anywhere before the query began.
    """

    WEAK = "weak"
    STRONG = "strong"


class Pending(asyncio.Future[T], Coroutine[Any, Any, T]):
    """An answer on its way.

    The work has begun when this is made: awaiting it only waits, and dropping or cancelling it takes
    nothing back. It is a future that may also be given to ``asyncio.create_task`` or a ``TaskGroup``,
    which take coroutines only; ``asyncio.wait`` refuses it as it does every coroutine.
    """

    __slots__ = ("_steps",)
    _steps: Generator[Any, None, T]

    def send(self, value: Any, /) -> Any:
        """One step of the task that drives this as its coroutine."""
        try:
            steps = self._steps
        except AttributeError:
            steps = self._steps = self.__await__()
        return next(steps)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        """The task that drives this was cancelled; what this waits for goes on."""
        if isinstance(typ, BaseException):
            raise typ
        raise val if isinstance(val, BaseException) else typ()

    def close(self) -> None:
        """Nothing to release."""
