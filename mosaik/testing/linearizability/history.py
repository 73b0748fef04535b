"""What clients did and saw: a history of operations, each with its beginning and its end."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple

__all__ = ["UNKNOWN", "History", "Operation", "Unknown"]


class Unknown:
    """The output of an operation whose outcome nobody knows."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = Unknown()


class Operation(NamedTuple):
    """One operation of one client.

    Attributes:
        key: what it was done to; operations on different keys know nothing of each other.
        input: what was asked for.
        output: what was answered; `UNKNOWN` when nobody knows whether it was done.
        call: when it began, on any clock that all operations of a history share.
        ended: when it was answered; None when it was not. It may then take effect at any time after its
            call, or never.
        client: who did it, for people.
    """

    key: Hashable
    input: Any
    output: Any
    call: float
    ended: float | None
    client: Hashable = None

    def __str__(self) -> str:
        span = f"{self.call:g}-" + ("" if self.ended is None else f"{self.ended:g}")
        who = "" if self.client is None else f"{self.client}: "
        return f"[{span}] {who}{self.key!r} {self.input} -> {self.output}"


class History:
    """Records operations while they happen.

    `begin` and exactly one of `end`, `lose` and `drop` are called for each. One that nobody ended is open: it
    counts as unknown.
    """

    def __init__(self) -> None:
        self._clock = 0
        self._open: dict[int, Operation] = {}
        self._closed: list[Operation] = []

    def __len__(self) -> int:
        return len(self._open) + len(self._closed)

    def mark(self) -> int:
        """This moment, on the history's clock: for noting when faults came and went."""
        # A counter is all that is needed of a clock: it tells which of two events came first.
        self._clock += 1
        return self._clock

    def begin(self, key: Hashable, input_: Any, *, client: Hashable = None) -> int:
        """An operation begins; answers the number by which it is ended."""
        number = self.mark()
        self._open[number] = Operation(key, input_, UNKNOWN, number, None, client)
        return number

    def end(self, number: int, output: Any) -> None:
        """It was answered."""
        operation = self._open.pop(number)
        self._closed.append(operation._replace(output=output, ended=self.mark()))

    def lose(self, number: int) -> None:
        """Its outcome is unknown: it stays open for ever."""
        self._closed.append(self._open.pop(number))

    def drop(self, number: int) -> None:
        """It was certainly not done."""
        del self._open[number]

    def operations(self) -> list[Operation]:
        """All of them, in the order in which they began."""
        return sorted([*self._closed, *self._open.values()], key=lambda each: each.call)

    def extend(self, operations: Iterable[Operation]) -> None:
        """Takes in operations that were recorded elsewhere, by a clock of its own that this one passes."""
        for each in operations:
            self._closed.append(each)
            self._clock = max(self._clock, int(each.ended or each.call))
