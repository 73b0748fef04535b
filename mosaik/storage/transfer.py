"""Moving whole logs: from one store into another, whatever backends they are on.

Theory of operation
-------------------
Everything goes through the contract, so any two backends will do. While a log is being written it is
*quarantined* under the replica id that it is to have: a node that is started on it by mistake takes no part
in anything. Only the last batch makes it what it was. So a transfer that was interrupted at any moment
leaves a store that harms nobody, and that is removed before the next attempt.

A copy keeps the log's store id: it *is* the same replica, in another place. Two places of one replica must
not run, for the one would answer for what only the other remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any, Final

import msgspec

from mosaik.primitives.digest import short
from mosaik.primitives.durable import Anchor, HardState, SnapshotRef, WriteBatch
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import CorruptEntry, StorageError, StorageMismatch
from mosaik.storage.contract import LogIdentity, Storage, StorageEnvironment

__all__ = [
    "LogHead",
    "begin_log",
    "copy_log",
    "fill_log",
    "finish_log",
    "follow",
    "read_entries",
    "read_head",
    "require_equal",
    "require_new",
]

#: Sealed bytes that are read, and written in one transaction, at a time.
_SLICE: Final = 1 << 20
#: Called with the number of entries that were done since the last call.
Report = Callable[[int], None]


class LogHead(msgspec.Struct, frozen=True, array_like=True):
    """All of a log but its entries.

    Attributes:
        identity: whose it is.
        hard_state: what its replica remembers.
        anchor, tail: where it begins and ends.
        term_starts: the first index of each run of equal terms, and the term.
        snapshot: the newest; the file that it names is not part of the store.
    """

    identity: LogIdentity
    hard_state: HardState
    anchor: Anchor
    tail: Anchor
    term_starts: tuple[tuple[int, int], ...] = ()
    snapshot: SnapshotRef | None = None

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self.tail.index - self.anchor.index


def read_head(identity: LogIdentity, log: Storage[Any]) -> LogHead:
    """All of an opened log but its entries.

    Raises:
        CorruptEntry: its end is suspect; what is carried elsewhere would forget that.
    """
    if log.suspect is not None:
        raise CorruptEntry(
            log.suspect.start,
            f"the entries {log.suspect} of group {short(identity.group)} are suspect, and a copy would "
            f"forget that; start the node, so that its peers supply them, and stop it again",
            url=log.environment.describe().url,
        )
    return LogHead(
        identity=identity,
        hard_state=log.hard_state,
        anchor=log.anchor,
        tail=log.tail,
        term_starts=tuple((first, term) for first, term in log.term_starts),
        snapshot=log.snapshot,
    )


def read_entries(log: Storage[Any], head: LogHead) -> Iterator[list[Entry[Any]]]:
    """The entries between a head's anchor and tail, each verified, in runs of about a megabyte.

    Raises:
        CorruptEntry: one is damaged or missing, or does not continue the one before it.
    """
    before = head.anchor
    while before.index < head.tail.index:
        run = log.get_range(before.index + 1, head.tail.index, limit=_SLICE)
        before = follow(before, run)
        yield run
    if before != head.tail:
        raise CorruptEntry(before.index, "it is not the entry with which the log ends")


def follow(before: Anchor, run: list[Entry[Any]]) -> Anchor:
    """Where a log ends that ended at ``before``, once this run was added.

    Raises:
        CorruptEntry: the run does not continue it.
    """
    first, last = (run[0], run[-1]) if run else (None, None)
    if first is None or last is None or first.index != before.index + 1:
        raise CorruptEntry(before.index + 1, "it is missing")
    if first.previous != before.checksum or first.term < before.term:
        raise CorruptEntry(first.index, "it does not continue the entry before it")
    return Anchor(last.term, last.index, last.checksum)


def require_new(environment: StorageEnvironment) -> None:
    """Refuses a store that holds logs.

    Raises:
        StorageMismatch: it holds some.
    """
    if held := environment.logs():
        named = ", ".join(short(identity.group) for identity in held)
        raise StorageMismatch(
            f"the destination holds logs already ({named}), and nothing is written over a log; name a new "
            f"place, or remove that store first",
            url=environment.describe().url,
        )


def begin_log(environment: StorageEnvironment, head: LogHead) -> Storage[Any]:
    """Makes a log in a store that has none of this group, quarantined for now.

    Raises:
        StorageError: the store refuses it.
    """
    log = environment.log(head.identity)
    hard = HardState(store=head.hard_state.store, life=head.hard_state.life, quarantine=True)
    log.write(WriteBatch(hard_state=hard, reset_to=head.anchor))
    return log


def fill_log(
    log: Storage[Any], runs: Iterable[list[Entry[Any]]], report: Report | None = None
) -> None:
    """Adds entries to a log that was begun.

    Raises:
        StorageError: they do not continue it, or the store refuses them.
    """
    for run in runs:
        log.append(run)
        if report is not None:
            report(len(run))


def finish_log(log: Storage[Any], head: LogHead) -> None:
    """Ends the quarantine of a log that has all its entries.

    Raises:
        CorruptEntry: it has not.
    """
    if log.tail != head.tail:
        raise CorruptEntry(log.tail.index + 1, "it is missing in what was to be written")
    log.write(WriteBatch(hard_state=head.hard_state, snapshot=head.snapshot))


def copy_log(
    source: StorageEnvironment,
    destination: StorageEnvironment,
    identity: LogIdentity,
    report: Report | None = None,
) -> LogHead:
    """Copies one log, with the replica that it is.

    Raises:
        CorruptEntry: an entry of the source is damaged.
        StorageError: the destination refuses it.
    """
    log = source.log(identity)
    head = read_head(identity, log)
    copy = begin_log(destination, head)
    fill_log(copy, read_entries(log, head), report)
    finish_log(copy, head)
    return head


def require_equal(
    source: StorageEnvironment,
    destination: StorageEnvironment,
    identity: LogIdentity,
    report: Report | None = None,
) -> None:
    """Reads a log in both stores and compares everything: identity, hard state, and each entry's bytes.

    Raises:
        StorageError: they differ; names the first difference.
    """
    logs = source.log(identity), destination.log(identity)
    if identity not in destination.logs():
        raise _difference(identity, "the group's parts are not the same", destination)
    heads = read_head(identity, logs[0]), read_head(identity, logs[1])
    for name in LogHead.__struct_fields__:
        one, other = (getattr(head, name) for head in heads)
        if one != other:
            raise _difference(identity, f"{name} is {one} there and {other} here", destination)
    pairs = zip_longest(
        (entry for run in read_entries(logs[0], heads[0]) for entry in run),
        (entry for run in read_entries(logs[1], heads[1]) for entry in run),
    )
    done = 0
    for one, other in pairs:
        done += 1
        if one is None or other is None or one.sealed != other.sealed:
            where = heads[0].anchor.index + done
            raise _difference(identity, f"entry {where} is not the same", destination)
        if report is not None and done % 4096 == 0:
            report(4096)
    if report is not None:
        report(done % 4096)


def _difference(identity: LogIdentity, what: str, environment: StorageEnvironment) -> StorageError:
    return StorageError(
        f"the copy of group {short(identity.group)} differs from its source: {what}; do not use it",
        url=environment.describe().url,
    )
