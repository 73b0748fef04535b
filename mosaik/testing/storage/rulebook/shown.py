"""What a log shows, held against what it should hold."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from mosaik.primitives.durable import Anchor, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import InvalidBatch
from mosaik.storage import Storage
from mosaik.testing.storage.history import Contradiction, LogView, look
from mosaik.testing.storage.rule import Broken

__all__ = ["end_of", "must_raise", "must_refuse", "require", "runs_of", "shown"]

ORIGIN = Anchor()


def end_of(run: Sequence[Entry[Any]], otherwise: Anchor = ORIGIN) -> Anchor:
    """Where a log ends whose last entries these are."""
    return Anchor(run[-1].term, run[-1].index, run[-1].checksum) if run else otherwise


def runs_of(held: Sequence[Entry[Any]]) -> list[tuple[int, int]]:
    """The first index and the term of each run of equal terms."""
    starts: list[tuple[int, int]] = []
    for entry in held:
        if not starts or starts[-1][1] != entry.term:
            starts.append((entry.index, entry.term))
    return starts


def shown(log: Storage[Any]) -> LogView:
    """All that a log shows.

    Raises:
        Broken: it contradicts itself.
    """
    try:
        return look(log)
    except Contradiction as error:
        raise Broken(str(error)) from error


def require(
    log: Storage[Any], held: Sequence[Entry[Any]], when: str, anchor: Anchor = ORIGIN
) -> None:
    """The log holds these entries after this anchor, and says so in every way it can be asked.

    Raises:
        Broken: it does not.
    """
    view = shown(log)
    if (view.anchor, [e.sealed for e in view.entries]) != (anchor, [e.sealed for e in held]):
        wanted = LogView(view.term, view.voted_for, anchor, tuple(held))
        raise Broken(f"{when} the log should hold {wanted}, and shows {view}")
    if list(log.term_starts) != runs_of(held):
        raise Broken(f"{when} the terms begin at {runs_of(held)}, and it says {log.term_starts}")
    around = {anchor.index: anchor.term, anchor.index - 1: None, view.tail.index + 1: None}
    for index, term in {**around, 0: 0}.items():
        if log.term_at(index) != term and index >= 0:
            raise Broken(f"{when} term_at({index}) is {log.term_at(index)} and not {term}")
    for index in (0, anchor.index, view.tail.index + 1):
        if log.get(index) is not None:
            raise Broken(f"{when} get({index}) gives an entry, where there is none")


@contextmanager
def must_raise(kind: type[Exception], what: str) -> Generator[None]:
    """Something that has to raise an error of this type, and no other."""
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise Broken(
            f"{what} should raise {kind.__name__}, and raised {type(error).__name__}: {error}"
        ) from error
    raise Broken(f"{what} should raise {kind.__name__}, and was done")


def must_refuse(log: Storage[Any], batch: WriteBatch[Any], what: str) -> None:
    """A batch that does not fit, and leaves the log as it was.

    Raises:
        Broken: it was taken, or left something behind.
    """
    before = (shown(log), log.hard_state)
    with must_raise(InvalidBatch, f"a batch with {what}"):
        log.write(batch)
    if (shown(log), log.hard_state) != before:
        raise Broken(f"a batch with {what} was refused, and yet changed the log")
