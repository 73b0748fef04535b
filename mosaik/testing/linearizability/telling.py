"""Whether a history can show anything: one in which nothing could have gone wrong proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from mosaik.testing.linearizability.history import Operation

__all__ = ["Vacuous", "require_telling", "with_stale_read"]

#: Of the operations, at least so many must be of each kind that matters,
SHARE: Final = 0.05
#: and of those that were answered, so many begin while another one is under way.
CONCURRENT: Final = 0.1

Kind = Callable[[Operation], bool]


class Vacuous(AssertionError):
    """A history shows too little to conclude anything from it."""


def require_telling(
    operations: Sequence[Operation],
    changes: Sequence[tuple[float, float]],
    *,
    reads: Kind,
    exchanges: Kind,
) -> None:
    """Requires what makes a history worth checking.

    Args:
        operations: in the order in which they began, as `History.operations` gives them.
        changes: when leaders changed: from the old one's end to the new one's beginning, on the history's
            clock (`History.mark`).
        reads: tells a strong read.
        exchanges: tells a compare-and-exchange, whose answer depends on what was there before.

    Raises:
        Vacuous: fewer than a twentieth of the operations are reads, or exchanges; no exchange was done; few
            ran at the same time; or none was under way while a leader changed.
    """
    share = len(operations) * SHARE
    for kind, wanted in (("reads", reads), ("exchanges", exchanges)):
        found = sum(map(wanted, operations))
        if not operations or found < share:
            raise Vacuous(f"{found} of {len(operations)} operations are {kind}: too few")
    if not any(exchanges(each) and each.output is True for each in operations):
        raise Vacuous("no exchange found what it expected")
    ended = [each for each in operations if each.ended is not None]
    overlaps = sum(one.call < other.call < (one.ended or 0) for one, other in pairwise(ended))
    if overlaps < CONCURRENT * len(ended):
        raise Vacuous(f"{overlaps} of {len(ended)} began during the one before: one at a time")
    for began, over in changes:
        if any(each.call < over and (each.ended or over) > began for each in operations):
            return
    raise Vacuous(f"no operation was under way during any of {len(changes)} changes of leaders")


def with_stale_read(
    operations: Sequence[Operation], *, reads: Kind, written: Callable[[Operation], object | None]
) -> list[Operation]:
    """A copy in which one read saw what had been overwritten long before; no checker may let it pass.

    Args:
        operations: of which no two write the same value under one key.
        reads: tells a strong read.
        written: the value that an operation put there for certain; None when it did not.

    Raises:
        Vacuous: there is no read after two writes that followed each other.
    """
    for at in range(len(operations) - 1, -1, -1):
        read = operations[at]
        if read.ended is None or not reads(read):
            continue
        before = [
            each
            for each in operations[:at]
            if each.key == read.key and each.ended is not None and each.ended < read.call
        ]
        writes = [each for each in before if written(each) is not None]
        for old in writes:
            if any(old.ended is not None and old.ended < new.call for new in writes):
                stale = read._replace(output=written(old))
                return [*operations[:at], stale, *operations[at + 1 :]]
    raise Vacuous("no read can be made stale: none follows two writes of its key")
