"""Whether a history is linearizable (Herlihy and Wing, 1990).

Theory of operation
-------------------
Linearizable means: each operation can be given one moment between its call and its end, so that done one
after the other at these moments all of them have the outputs that they had. Histories are checked key by
key, since a history is linearizable exactly when its part of every key is (ibid., theorem 1).

The search is that of Wing and Gong (1993) with the memory of Lowe (2017). Calls and ends stand in one list
by time. Any operation that was called before the first end may come first: take one that the model allows,
remove it from the list, go on from the beginning. At an end whose operation is still there nothing else
may come before it, so the last choice is taken back. A choice that leads to operations and a state that
were both reached before is not tried again; that makes it fast enough.

An operation without an end never stands in anybody's way, and once only such are left all is well: they
happened later, or never. Twenty of them could be used in a million ways, though, so they are kept apart:
one is taken only where nothing else fits, and only if what comes next needs it: without it that would be
refused, or would lead elsewhere. And to have used fewer of them is never worse. Where the same others were
ordered, with the same state, using no more of these, nothing new can follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from mosaik.testing.linearizability.history import Operation
from mosaik.testing.linearizability.model import REFUSED, Model

__all__ = ["Failure", "NotLinearizable", "assert_linearizable", "check_linearizable"]

#: Operations that are shown on either side of where the order breaks off.
_SHOWN = 5


class Failure(NamedTuple):
    """The operations of one key that cannot be ordered.

    Attributes:
        key: which.
        ordered: the longest order that was found, and
        state: what it leads to.
        blocked: an operation that ended when only these had happened, and does not fit.
        rivals: those that could have come next, none of which helps.
    """

    key: Hashable
    ordered: Sequence[Operation]
    state: Any
    blocked: Operation
    rivals: Sequence[Operation]

    def __str__(self) -> str:
        lines = [
            f"the operations on {self.key!r} cannot be ordered: after {len(self.ordered)} of them the "
            f"state is {self.state!r}, and this one does not fit:",
            f"    {self.blocked}",
        ]
        if self.rivals:
            lines.append("whatever comes first of those that ran beside it:")
            lines += [f"    {each}" for each in self.rivals[:_SHOWN]]
        if self.ordered:
            lines.append("the last that could be ordered:")
            lines += [f"    {each}" for each in self.ordered[-_SHOWN:]]
        return "\n".join(lines)


class NotLinearizable(AssertionError):
    """A history has no order.

    Attributes:
        failures: one for each key whose operations have none.
    """

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__("\n\n".join(map(str, failures)))
        self.failures = failures


def assert_linearizable(
    history: Iterable[Operation],
    model: Model[Any],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """See `check_linearizable`.

    Raises:
        NotLinearizable: it is not; names the operations that cannot be ordered.
    """
    failures = check_linearizable(history, model, progress=progress)
    if failures:
        raise NotLinearizable(failures)


def check_linearizable(
    history: Iterable[Operation],
    model: Model[Any],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Failure]:
    """The keys whose operations have no order; none when the history is linearizable.

    Takes time in proportion to the operations while few run at once, and in the worst case exponentially many
    steps of those that do.

    Args:
        progress: is called with the number of operations of each key that is done.
    """
    parts: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        parts[operation.key].append(operation)
    failures: list[Failure] = []
    for key, operations in parts.items():
        failure = _check(key, operations, model)
        if failure is not None:
            failures.append(failure)
        if progress is not None:
            progress(len(operations))
    return failures


class _Event:
    """A call, or the end of one, in a list with links both ways."""

    __slots__ = ("bit", "end", "next", "operation", "previous")

    def __init__(self, operation: Operation | None, bit: int, end: _Event | None) -> None:
        self.operation = operation
        self.bit = bit
        #: Of a call: its end. An end has none, and no bit.
        self.end = end
        self.previous: _Event = self
        self.next: _Event | None = None

    def lift(self) -> None:
        """Takes a call and its end out of the list."""
        self._unlink()
        if self.end is not None:
            self.end._unlink()

    def unlift(self) -> None:
        """Puts them back, where they were."""
        if self.end is not None:
            self.end._link()
        self._link()

    def _unlink(self) -> None:
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def _link(self) -> None:
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def _linked(operations: Sequence[Operation]) -> _Event:
    """The events of operations that ended, by time, behind an empty one."""
    timed: list[tuple[float, int, _Event]] = []
    for number, operation in enumerate(operations):
        assert operation.ended is not None
        end = _Event(operation, 0, None)
        # At one and the same time calls come first: the operations may then overlap.
        timed.append((operation.call, 0, _Event(operation, 1 << number, end)))
        timed.append((operation.ended, 1, end))
    timed.sort(key=lambda each: each[:2])
    head = last = _Event(None, 0, None)
    for _, _, event in timed:
        last.next, event.previous = event, last
        last = event
    return head


class _Memory:
    """What was reached: which of the operations that ended are ordered, and the state. For each, the least
    sets of the others that it took."""

    def __init__(self) -> None:
        self._reached: dict[tuple[int, Any], list[int]] = {}

    def is_new(self, done: int, state: Any, used: int) -> bool:
        """Notes it; False when as much was reached before, with no more."""
        least = self._reached.setdefault((done, state), [])
        if any(before & used == before for before in least):
            return False
        least[:] = [before for before in least if before & used != used]
        least.append(used)
        return True


class _Taken(NamedTuple):
    """A choice: an event, or the number of an operation without an end; and the state before it."""

    event: _Event | None
    number: int
    state: Any

    def needed(self, operation: Operation, after: Any, model: Model[Any]) -> bool:
        """Whether an operation that leads to ``after`` would have led elsewhere without this one."""
        if self.event is not None:
            return True
        return bool(model.step(self.state, operation.input, operation.output) != after)


def _check(key: Hashable, operations: Sequence[Operation], model: Model[Any]) -> Failure | None:
    head = _linked([each for each in operations if each.ended is not None])
    endless = sorted(
        (each for each in operations if each.ended is None), key=lambda each: each.call
    )
    left = len(operations) - len(endless)
    state, done, used = model.initial(key), 0, 0
    memory = _Memory()
    memory.is_new(done, state, used)
    taken: list[_Taken] = []
    best: tuple[list[Operation], Any, _Event] | None = None
    event, number = head.next, 0

    def leads_on(operation: Operation, after: Any) -> bool:
        return after is not REFUSED and (not taken or taken[-1].needed(operation, after, model))

    while left and event is not None:
        operation = _operation_of(event)
        if event.bit:
            after = model.step(state, operation.input, operation.output)
            if not leads_on(operation, after) or not memory.is_new(done | event.bit, after, used):
                event = event.next
                continue
            taken.append(_Taken(event, 0, state))
            state, done = after, done | event.bit
            left -= 1
            event.lift()
            event, number = head.next, 0
            continue
        # An end. Of those that ended nothing else may come before it; of the others, what was called by now.
        assert operation.ended is not None
        if number < len(endless) and endless[number].call <= operation.ended:
            bit, other = 1 << number, endless[number]
            after = REFUSED if used & bit else model.step(state, other.input, other.output)
            if not leads_on(other, after) or not memory.is_new(done, after, used | bit):
                number += 1
                continue
            taken.append(_Taken(None, number, state))
            state, used = after, used | bit
            event, number = head.next, 0
            continue
        if best is None or len(taken) > len(best[0]):
            best = ([_chosen(each, endless) for each in taken], state, event)
        if not taken:
            return _failure(key, best, operations)
        back, number, state = taken.pop()
        if back is None:
            used &= ~(1 << number)
            number += 1
            event = _first_end(head)
        else:
            done &= ~back.bit
            left += 1
            back.unlift()
            event, number = back.next, 0
    return None


def _first_end(head: _Event) -> _Event | None:
    event = head.next
    while event is not None and event.bit:
        event = event.next
    return event


def _chosen(taken: _Taken, endless: Sequence[Operation]) -> Operation:
    return endless[taken.number] if taken.event is None else _operation_of(taken.event)


def _operation_of(event: _Event) -> Operation:
    assert event.operation is not None  # of a call
    return event.operation


def _failure(
    key: Hashable, best: tuple[list[Operation], Any, _Event], operations: Sequence[Operation]
) -> Failure:
    ordered, state, event = best
    blocked = _operation_of(event)
    assert blocked.ended is not None  # it is an end that blocks
    placed = set(map(id, ordered))
    rivals = [
        each
        for each in operations
        if id(each) not in placed and each is not blocked and each.call <= blocked.ended
    ]
    return Failure(key, ordered, state, blocked, rivals)
