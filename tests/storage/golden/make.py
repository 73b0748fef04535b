"""Makes the golden stores of the present format: ``python -m tests.storage.golden.make DIRECTORY``.

A golden store is made once, when a format is new, and kept for ever: every later version must open it and
read the same. So this is run again only with a new format, into a new directory beside this file; the stores
of a format that was ever released are never made anew. ``expected.json`` says what they hold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mosaik.primitives.cursor import Cursor
from mosaik.primitives.digest import Digest
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.membership import (
    Attempt,
    Configuration,
    Member,
    Replica,
    Role,
    configuration_codec,
)
from mosaik.storage import LogIdentity, Storage, StorageEnvironment, open_storage

__all__ = ["BACKENDS", "Expected", "fill", "place_of", "read_all"]

BACKENDS: Final = ("sqlite", "lmdb", "rocksdb")
PEER: Final = bytes(range(32))
OTHERS: Final = (b"\x77" * 32, b"\x99" * 32)
STORES: Final = (b"first store id..", b"second store id.", b"third store id..")
HISTORY: Final = b"h" * 32
_LEFT_OUT: Final = ("mosaik.lock", "sqlite.db.lock", "lock.mdb", "LOCK")
_TIME: Final = 1_790_000_000_000


class Expected(msgspec.Struct, frozen=True):
    """What one log of a golden store holds; of each entry the digest of its sealed bytes."""

    identity: LogIdentity
    hard_state: HardState
    anchor: Anchor
    tail: Anchor
    term_starts: tuple[tuple[int, int], ...]
    snapshot: SnapshotRef | None
    entries: tuple[str, ...]


def fill(environment: StorageEnvironment) -> None:
    """Writes everything that format 1 can hold: two logs, every kind of entry, every part of a batch."""
    replicas = [
        Replica(peer, store, 0) for peer, store in zip((PEER, *OTHERS), STORES, strict=True)
    ]
    founders = Configuration(tuple(Member(replica, Role.VOTER) for replica in replicas))
    _fill_first(environment, replicas, founders)
    second = environment.log(_identity("second", {}))
    run = _sealed([(EntryKind.COMMAND, 1, b"a" * size) for size in (1, 70_000, 0)])
    second.append(run)
    second.write(WriteBatch(truncate_from=3, entries=_sealed([(EntryKind.NOOP, 4, b"")], run[1])))


def _fill_first(
    environment: StorageEnvironment, replicas: Sequence[Replica], founders: Configuration
) -> None:
    log = environment.log(_identity("first", {"election_timeout": "1.5", "machine": "ab" * 32}))
    configuration = configuration_codec.encode(founders)
    parts = [(EntryKind.CONFIG, 1, configuration), (EntryKind.FOUNDED, 1, b"")]
    parts += [(EntryKind.COMMAND, 1, f"command {n}".encode() * (n % 7)) for n in range(3, 60)]
    parts += [(EntryKind.NOOP, 3, b""), (EntryKind.CONFIG, 3, configuration)]
    parts += [(EntryKind.COMMAND, 3, bytes([n]) * n) for n in range(62, 100)]
    parts += [(EntryKind.DISSOLVE, 7, HISTORY)]
    run = _sealed(parts)
    attempt = Attempt(founders, replicas[1], b"n" * 16, run[0].sealed, HISTORY)
    hard_state = HardState(
        term=8,
        voted_for=replicas[2],
        store=STORES[0],
        life=2,
        history=HISTORY,
        attempt=attempt,
        configs=(1, 61),
        founded=2,
        first_command=3,
        dissolve=100,
        dissolved=((b"d" * 32, b""), (b"e" * 32, HISTORY)),
        quarantine=False,
        floors=((replicas[1], Cursor(7, 90)), (replicas[2], Cursor(7, 100))),
    )
    log.write(WriteBatch(hard_state=hard_state, reset_to=Anchor(), entries=run[:50]))
    log.append(run[50:])
    boundary = run[0]
    anchor = Anchor(boundary.term, boundary.index, boundary.checksum)
    log.write(WriteBatch(prune_to=1, snapshot=SnapshotRef(anchor, "snapshot-1", 4096, b"s" * 32)))


def _identity(name: str, parts: dict[str, str]) -> LogIdentity:
    tag = name.encode()
    return LogIdentity(group=tag.ljust(32, b"g"), peer=PEER, key=tag.ljust(32, b"k"), parts=parts)


def _sealed(
    parts: Sequence[tuple[EntryKind, int, bytes]], after: Entry[Any] | None = None
) -> list[Entry[Any]]:
    made: list[Entry[Any]] = []
    for kind, term, payload in parts:
        before = made[-1] if made else after
        index, previous = (before.index + 1, before.checksum) if before else (1, 0)
        made.append(seal(kind, index, term, _TIME + index, payload, previous))
    return made


def read_all(log: Storage[Any], identity: LogIdentity) -> Expected:
    """All that a log holds."""
    entries = log.get_range(0, log.tail.index)
    return Expected(
        identity=identity,
        hard_state=log.hard_state,
        anchor=log.anchor,
        tail=log.tail,
        term_starts=tuple(log.term_starts),
        snapshot=log.snapshot,
        entries=tuple(Digest.hash(entry.sealed).hex() for entry in entries),
    )


def place_of(backend: str, directory: Path) -> Path:
    """Where a backend's golden store lies."""
    return directory / (f"{backend}.db" if backend == "sqlite" else backend)


def _main(directory: Path) -> None:
    directory.mkdir(parents=True)
    for backend in BACKENDS:
        environment = open_storage(backend, peer=PEER, data_dir=directory)
        fill(environment)
        environment.close()
    found: list[Expected] = []
    environment = open_storage("memory", peer=PEER)
    fill(environment)
    for identity in sorted(environment.logs(), key=lambda each: each.group):
        expected = read_all(environment.log(identity), identity)
        if expected.identity.group.startswith(b"second"):
            # Made with the log, so each backend's is another.
            hard_state = msgspec.structs.replace(expected.hard_state, store=b"")
            expected = msgspec.structs.replace(expected, hard_state=hard_state)
        found.append(expected)
    environment.close()
    text = msgspec.json.format(msgspec.json.encode(found))
    (directory / "expected.json").write_bytes(text + b"\n")
    for path in directory.rglob("*"):
        # Locks are made when they are missing, and RocksDB's diary is nobody's answer.
        if path.is_file() and (path.name in _LEFT_OUT or path.name.startswith("LOG")):
            path.unlink()


if __name__ == "__main__":
    _main(Path(sys.argv[1]).absolute())
