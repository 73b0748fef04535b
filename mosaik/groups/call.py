"""One call that gives commands, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from mosaik.groups.outcome import Pending
from mosaik.primitives.cursor import Applied, Index, IndexRange
from mosaik.primitives.errors import MosaikError, Offline, OutcomeUnknown

__all__ = ["AppliedRange", "Call"]

R = TypeVar("R")


class AppliedRange(IndexRange, Generic[R]):
    """Where a batch of commands was applied, together with what the state machine answered.

    A batch of up to 1,024 commands is contiguous. A longer one is appended in slices, in order, and the
    group's own entries (a new member, say) may stand between two slices.

    Attributes:
        results: one answer for each command, in order.
    """

    results: list[R]

    def __new__(cls, start: int, end: int, results: list[R]) -> AppliedRange[R]:
        self = super().__new__(cls, start, end)
        self.results = results
        return self


class Call:
    """One call of ``execute``, ``execute_many``, ``feed`` or ``feed_many``, and who waits for it.

    Its commands are decided one by one, in order; the call ends with the last of them, or with the
    first that fails.

    Args:
        commands: as the caller gave them, to be handed back when they fail.
        payloads: the same, encoded.
        pending: what the caller waits for.
        many: answer with a range.
        feed: answer when the leader has appended, not when the machine has applied.
    """

    __slots__ = (
        "commands",
        "excluded",
        "feed",
        "first",
        "many",
        "payloads",
        "pending",
        "reached",
        "results",
        "sent",
    )

    def __init__(
        self,
        commands: Sequence[Any],
        payloads: Sequence[bytes],
        pending: Pending[Any],
        *,
        many: bool,
        feed: bool,
    ) -> None:
        self.commands = commands
        self.payloads = payloads
        #: How many of them went to a leader, and how many of those are certainly not done.
        self.sent = 0
        self.excluded = 0
        self.pending = pending
        self.many = many
        self.feed = feed
        self.first = 0
        #: How many of its commands were appended by a leader.
        self.reached = 0
        self.results: list[Any] = []

    def accepted(self, index: int) -> None:
        """The leader appended the next command at ``index``."""
        self.reached += 1
        if not self.feed or self.pending.done():
            return
        self.first = self.first or index
        if self.reached == len(self.commands):
            self.pending.set_result(IndexRange(self.first, index) if self.many else Index(index))

    def applied(self, index: int, result: Any) -> None:
        """This node's machine applied the next command."""
        if self.feed or self.pending.done():
            return
        if not self.many:
            self.pending.set_result(Applied(index, result))
            return
        self.first = self.first or index
        self.results.append(result)
        if len(self.results) == len(self.commands):
            self.pending.set_result(AppliedRange(self.first, index, self.results))

    def not_done(self, why: str) -> None:
        """The next command is certainly not done, nor is any after it."""
        if self.pending.done():
            return
        if self.sent != self.excluded:
            # Of a batch in slices, some may be in the log: neither "done" nor "not done" is true of it.
            self.unknown(f"a part of the batch may have been done, the rest was not: {why}")
            return
        self.pending.set_exception(
            Offline(f"not done: {why}; the commands may be sent again", self.commands)
        )

    def unknown(self, why: str) -> None:
        """Nobody here can tell whether the next command is done."""
        if not self.pending.done():
            self.pending.set_exception(
                OutcomeUnknown(f"done or not done: {why}; look before you repeat", self.commands)
            )

    def ends(self, error: Callable[[], MosaikError]) -> None:
        """The group ended before the next command was decided."""
        if not self.pending.done():
            self.pending.set_exception(error())
