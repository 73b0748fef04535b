"""What operations on a `Map` are, for whoever asks about a history of them."""

from __future__ import annotations

from typing import Any

from mosaik.machines import Map
from mosaik.testing.linearizability import Operation

__all__ = ["inserted", "is_exchange", "is_read"]


def is_read(each: Operation) -> bool:
    """Whether it is a strong read."""
    return isinstance(each.input, Map.Get)


def is_exchange(each: Operation) -> bool:
    """Whether it is a compare-and-exchange."""
    return isinstance(each.input, Map.Exchange)


def _is_insertion(each: Operation) -> bool:
    return isinstance(each.input, Map.Insert)


def inserted(each: Operation) -> Any:
    """The value that it put there for certain; None when it did not."""
    return each.input.value if _is_insertion(each) and each.ended is not None else None
