"""Sequential specifications: what one client alone would see."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from mosaik.testing.linearizability.history import UNKNOWN

__all__ = ["ABSENT", "REFUSED", "Append", "CompareExchange", "Model", "Read", "Register", "Write"]

S = TypeVar("S", bound=Hashable)


class _Refused:
    """No state."""

    def __repr__(self) -> str:
        return "refused"


#: What a model answers when an output cannot be.
REFUSED: Final[Any] = _Refused()


class Model(Protocol[S]):
    """What the object of one key is, and what operations do to it."""

    def initial(self, key: Hashable) -> S:
        """The state before all operations; states are hashable and equal when they behave alike."""
        ...

    def step(self, state: S, input: Any, output: Any) -> S:
        """The state after an operation; `REFUSED` when it could not have had this output in that state.

        Args:
            output: `UNKNOWN` fits every state.
        """
        ...


class _Absent:
    """There is no value."""

    def __repr__(self) -> str:
        return "absent"


#: The value of a register that was never written.
ABSENT: Final[Any] = _Absent()


class Read(NamedTuple):
    """Its output is the value."""


class Write(NamedTuple):
    """Its output does not matter."""

    value: Hashable


class CompareExchange(NamedTuple):
    """Writes ``new`` where it finds ``expected``; its output says whether it did."""

    expected: Hashable
    new: Hashable


class Append(NamedTuple):
    """Adds to a text; its output does not matter."""

    text: str


class Register:
    """One value that is read, written, and compared and exchanged.

    Args:
        initial: of every key.
    """

    def __init__(self, initial: Hashable = ABSENT) -> None:
        self._initial = initial

    def initial(self, key: Hashable) -> Hashable:
        del key
        return self._initial

    def step(self, state: Hashable, input: Any, output: Any) -> Any:
        match input:
            case Read():
                return state if output is UNKNOWN or output == state else REFUSED
            case Write(value):
                return value
            case Append(text):
                return f"{'' if state is ABSENT else state}{text}"
            case CompareExchange(expected, new):
                done = state == expected
                if output is not UNKNOWN and output is not done:
                    return REFUSED
                return new if done else state
            case _:
                raise TypeError(f"a register knows no {input!r}")
