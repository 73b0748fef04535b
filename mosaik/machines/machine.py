"""What a state machine is: the one thing that the application writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.digest import Digest

__all__ = ["ApplyContext", "StateMachine"]

C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")


class ApplyContext(NamedTuple):
    """What a machine may know about the command it applies; equal on every node.

    Attributes:
        cursor: the command's own place in the log.
        time_ms: the leader's clock when the command entered the log, milliseconds since 1970. Never
            goes back. Use it instead of a clock.
        group: the group's id.
    """

    cursor: Cursor
    time_ms: int
    group: bytes


class StateMachine(ABC, Generic[C, Q, R]):
    """A deterministic machine that every member runs on the same commands in the same order.

    Typed by its command ``C`` (replicated, anything msgspec encodes), its query ``Q`` and its result
    ``R`` (what `apply` and `query` answer). `apply` must depend on nothing but the machine's state and
    its arguments: no clock, no randomness, no I/O; and it must not block.
    """

    @property
    @abstractmethod
    def command_type(self) -> Any:
        """The type of ``C`` as msgspec understands it; commands are validated against it."""

    @property
    @abstractmethod
    def query_type(self) -> Any:
        """The type of ``Q`` as msgspec understands it."""

    @property
    @abstractmethod
    def result_type(self) -> Any:
        """The type of ``R`` as msgspec understands it."""

    @abstractmethod
    def signature(self) -> Digest:
        """Names the machine's type and whatever changes its meaning; members must agree on it."""

    @abstractmethod
    def apply(self, command: C, context: ApplyContext) -> R:
        """Changes the state and answers. Raising ends the group on this node (`ApplyError`)."""

    def apply_batch(self, commands: Sequence[tuple[C, ApplyContext]]) -> list[R]:
        """Applies several commands in order; override it where that is cheaper than one by one."""
        return [self.apply(command, context) for command, context in commands]

    @abstractmethod
    def query(self, query: Q) -> R:
        """Answers from the state without changing it."""

    @abstractmethod
    def reset(self) -> None:
        """Returns to the empty state, before a log is replayed from its start."""
