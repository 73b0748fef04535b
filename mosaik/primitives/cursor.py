"""Positions in a log, as cheap as the ints and tuples they are."""

from __future__ import annotations

from typing import Generic, NamedTuple, Self, TypeVar

__all__ = ["Applied", "Cursor", "Index", "IndexRange", "Term"]

R = TypeVar("R")


class _Counter(int):
    """A count that starts at zero and never goes below it."""

    __slots__ = ()

    @classmethod
    def zero(cls) -> Self:
        return cls(0)

    @classmethod
    def one(cls) -> Self:
        return cls(1)

    def is_zero(self) -> bool:
        return self == 0

    def prev(self) -> Self:
        """One less, or zero."""
        return type(self)(max(0, self - 1))

    def next(self) -> Self:
        """One more."""
        return type(self)(self + 1)

    def distance(self, other: int) -> int:
        """How far apart the two are, without a sign."""
        return abs(self - other)


class Index(_Counter):
    """A place in the log. The first entry has index 1; 0 is the place before it."""


class Term(_Counter):
    """A leader's reign. Terms start at 0; the first candidate stands in term 1 (thesis §3.3)."""


class Applied(Index, Generic[R]):
    """The index at which a command was applied, together with what the state machine answered."""

    # No ``__slots__``: a subclass of int with a payload needs its dictionary.
    result: R

    def __new__(cls, index: int, result: R) -> Self:
        self = super().__new__(cls, index)
        self.result = result
        return self

    def __str__(self) -> str:
        return str(int(self))

    def __repr__(self) -> str:
        return f"Applied({int(self)}, result={self.result!r})"


class Cursor(NamedTuple):
    """A position that says who wrote it. Ordered by term first: that is Raft's "more up to date"
    (thesis §3.6.1)."""

    term: int = 0
    index: int = 0  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here

    def is_behind(self, other: Cursor) -> bool:
        """Whether a log that ends here is less up to date than one that ends at ``other``."""
        return self < other

    def __str__(self) -> str:
        return f"(t:{self.term},i:{self.index})"


class IndexRange(NamedTuple):
    """The indices ``start`` to ``end``, both included. ``0..0`` holds nothing."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start + 1 if self.end >= self.start > 0 else 0

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.start <= index <= self.end and self.start > 0

    def __str__(self) -> str:
        return f"[{self.start}..{self.end}]"
