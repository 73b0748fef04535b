"""Durable appends and sequential reads of every backend, next to a plain file.

The floor is a file that gets the same bytes by one ``write`` and one ``fdatasync`` a batch: what a store
could do if it did nothing else. Entries are sealed beforehand, since the leader seals them once and
every node only stores them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from mosaik.primitives.entry import Entry, join_sealed
from mosaik.storage import LogIdentity, list_backends, open_storage
from mosaik.storage.measure import BareFile, sealed_batches

__all__ = ["run"]

#: Entries in a batch, and batches in a run.
SIZES: Final = {1: 2000, 64: 400, 1024: 60}
FLOOR: Final = "bare file"
PEER: Final = bytes(range(32))
IDENTITY: Final = LogIdentity(group=b"g" * 32, peer=PEER, key=b"k" * 32)
#: Bytes that one read asks for.
SLICE: Final = 256 * 1024

Batches = Sequence[Sequence[Entry[Any]]]


class Rates(NamedTuple):
    """Entries per second."""

    append: float
    read: float


def run(*, runs: int) -> str:
    """Measures each contestant in turn, several times over; a table in Markdown."""
    backends = [each for each in list_backends() if not (each.wraps or each.remote)]
    contestants: dict[str, Callable[[Path, Batches], Rates]] = {FLOOR: _file}
    contestants |= {each.scheme: _store(each.scheme) for each in backends if each.importable}
    samples: dict[tuple[int, str], list[Rates]] = {}
    for size, count in SIZES.items():
        batches = _batches(size, count)
        for number in range(runs):
            for name, measure in contestants.items():
                with tempfile.TemporaryDirectory(prefix="mosaik-bench-") as directory:
                    samples.setdefault((size, name), []).append(measure(Path(directory), batches))
            sys.stderr.write(f"run {number + 1}/{runs}: storage, {size} a batch\n")
    names = [*contestants, *(each.scheme for each in backends if not each.importable)]
    return _table(names, samples)


def _batches(size: int, count: int) -> list[list[Entry[Any]]]:
    return list(islice(sealed_batches(size), count))


def _file(directory: Path, batches: Batches) -> Rates:
    path = directory / "log"
    blobs = [join_sealed(batch) for batch in batches]
    entries = sum(map(len, batches))
    bare = BareFile(path)
    started = time.perf_counter()
    for blob in blobs:
        bare.append(blob)
    append = entries / (time.perf_counter() - started)
    bare.close()
    started = time.perf_counter()
    with path.open("rb") as file:
        while file.read(SLICE):
            pass
    return Rates(append, entries / (time.perf_counter() - started))


def _store(scheme: str) -> Callable[[Path, Batches], Rates]:
    def measure(directory: Path, batches: Batches) -> Rates:
        entries = sum(map(len, batches))
        environment = open_storage(scheme, peer=PEER, data_dir=directory)
        log = environment.log(IDENTITY)
        started = time.perf_counter()
        for batch in batches:
            log.append(batch)
        append = entries / (time.perf_counter() - started)
        started, index = time.perf_counter(), 1
        while found := log.get_range(index, entries, limit=SLICE):
            index += len(found)
        read = entries / (time.perf_counter() - started)
        environment.close()
        assert index == entries + 1, "everything was read"
        return Rates(append, read)

    return measure


def _table(names: Sequence[str], samples: dict[tuple[int, str], list[Rates]]) -> str:
    lines = [
        "| store | entries a batch | appended/s (median, spread) | of the file | read/s | sync | payload |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        floor = median(rates.append for rates in samples[size, FLOOR])
        for name in names:
            rates = samples.get((size, name))
            if rates is None:
                lines.append(f"| {name} | {size} | not run: its driver is missing | | | | |")
                continue
            appended = [each.append for each in rates]
            middle = median(appended)
            spread = f"{middle:,.0f} ({min(appended):,.0f}-{max(appended):,.0f})"
            sync = {"memory": "none", FLOOR: "one fdatasync a batch"}.get(name, "every batch")
            read = "unverified bytes" if name == FLOOR else f"{median(r.read for r in rates):,.0f}"
            lines.append(
                f"| {name} | {size} | {spread} | {middle / floor:.2f} | {read} | {sync} | 128 B, sealed |"
            )
    return "\n".join(lines)
