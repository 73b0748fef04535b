"""What may be said, and when: messages wait for the write that they rest on.

Theory of operation
-------------------
Writes are numbered. `Outbox.mark` stamps a change of the hard state with the number of the write that
will carry it; from then on every message waits for that write, so that messages also keep their order.
A message that had to wait is dropped if its *context* (term, history and life) has passed meanwhile: an
acknowledgement that outlived its term would vouch for entries that a new leader has replaced.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mosaik.consensus.effects import Outgoing
from mosaik.primitives.errors import InternalError

__all__ = ["Context", "Outbox"]


class Context(NamedTuple):
    """When and as whom a message is spoken."""

    term: int
    history: bytes
    life: int


class _Held(msgspec.Struct, gc=False):
    sequence: int
    context: Context
    outgoing: Outgoing


class Outbox:
    """Numbers writes, and holds messages back until what they rest on is durable."""

    def __init__(self) -> None:
        self._next = 1
        self._in_flight: int | None = None
        self._durable = 0
        self._needed = 0
        self._held: list[_Held] = []

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return self._in_flight is not None

    def mark(self) -> None:
        """The hard state changed: what is said from now on waits for the next write."""
        self._needed = self._next

    def post(self, outgoing: Outgoing, context: Context, ready: list[Outgoing]) -> None:
        """Adds a message to ``ready``, or holds it back."""
        if self._needed <= self._durable:
            ready.append(outgoing)
        else:
            self._held.append(_Held(self._needed, context, outgoing))

    def begin(self) -> int:
        """A write starts; returns its number."""
        if self._in_flight is not None:
            raise InternalError(f"write {self._in_flight} is still under way")
        self._in_flight = self._next
        self._next += 1
        return self._in_flight

    def complete(self, sequence: int, context: Context, ready: list[Outgoing]) -> None:
        """A write is durable: what waited for it goes, unless its context has passed."""
        if sequence != self._in_flight:
            raise InternalError(f"write {sequence} was reported; in flight is {self._in_flight}")
        self._in_flight = None
        self._durable = sequence
        waiting, self._held = self._held, []
        for held in waiting:
            if held.sequence > sequence:
                self._held.append(held)
            elif held.context == context:
                ready.append(held.outgoing)
