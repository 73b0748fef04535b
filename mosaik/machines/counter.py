"""A replicated integer."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from mosaik.machines.machine import ApplyContext, StateMachine
from mosaik.primitives.digest import Digest

__all__ = ["Counter"]

_SIGNATURE: Final = Digest("mosaik.machines.Counter")


class _Increment(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Adds ``by``, which may be negative; answers the new value."""

    by: int = 1


class _Reset(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Sets the counter to ``to``; answers the new value."""

    to: int = 0


class _Value(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Asks for the current value."""


class Counter(StateMachine[_Increment | _Reset, _Value, int]):
    """An integer that starts at 0. Every command and the query answer its value.

    MessagePack integers have 64 bits. A replicated machine may not fail on a committed command, so the
    value wraps around within a signed 64-bit integer instead of growing out of what can be sent.
    """

    Increment: TypeAlias = _Increment
    Reset: TypeAlias = _Reset
    Value: TypeAlias = _Value

    def __init__(self) -> None:
        self._value = 0

    @property
    def command_type(self) -> Any:
        return _Increment | _Reset

    @property
    def query_type(self) -> Any:
        return _Value

    @property
    def result_type(self) -> Any:
        return int

    def signature(self) -> Digest:
        return _SIGNATURE

    def apply(self, command: _Increment | _Reset, context: ApplyContext) -> int:
        value = self._value + command.by if isinstance(command, _Increment) else command.to
        self._value = (value + 2**63) % 2**64 - 2**63
        return self._value

    def query(self, query: _Value) -> int:
        return self._value

    def reset(self) -> None:
        self._value = 0
