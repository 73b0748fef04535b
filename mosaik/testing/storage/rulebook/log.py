"""LOG: entries are read as they were written, and nothing else is."""

from __future__ import annotations

from mosaik.testing.storage.ground import Ground, entries
from mosaik.testing.storage.rule import Broken, rule

__all__ = ["appended", "empty"]


@rule("LOG-01", "A new log is empty: nothing to read, and both ends at zero.")
def empty(ground: Ground) -> None:
    log = ground.log()
    if tuple(log.last()) != (0, 0) or log.get(1) is not None or log.get_range(0, 10):
        raise Broken(f"a new log ends at {log.last()} and holds {log.get_range(0, 10)}")


@rule("LOG-02", "Appended entries are read back, byte for byte.")
def appended(ground: Ground) -> None:
    log, written = ground.log(), entries(10)
    log.append(written)
    read = log.get_range(1, 10)
    if [entry.sealed for entry in read] != [entry.sealed for entry in written]:
        raise Broken(f"wrote {written}, read {read}")
