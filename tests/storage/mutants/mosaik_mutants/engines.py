"""Journals with one thing wrong each."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from mosaik.storage import Change
from mosaik.storage.memory import MemoryEngine

from .journal import JournalEngine, frame, made_of


class AcksEarly(JournalEngine):
    """Syncs a commit when the next one comes."""

    def commit(self, changes: Sequence[Change]) -> None:
        self.sync()
        self.write(frame(changes))
        MemoryEngine.commit(self, changes)


class TruncatesLazily(JournalEngine):
    """Does not sync what only removes entries."""

    def commit(self, changes: Sequence[Change]) -> None:
        if all(change.delete_from is not None for change in changes):
            self.write(frame(changes))
            MemoryEngine.commit(self, changes)
        else:
            super().commit(changes)


class ForgetsDirectory(JournalEngine):
    """Never syncs the directory in which it renames."""

    def sync_directory(self) -> None:
        """Forgets to."""


class HalfCommits(JournalEngine):
    """Writes a commit of two logs as two frames."""

    def commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            super().commit([change])


class SplitsBatches(JournalEngine):
    """Writes what a batch removes and what it adds as two frames."""

    writing: Sequence[Change] = ()

    def write(self, data: bytes) -> None:
        for change in self.writing:
            removal = replace(change, rows=(), meta=None)
            super().write(frame([removal]))
        super().write(data)

    def commit(self, changes: Sequence[Change]) -> None:
        self.writing = changes
        super().commit(changes)


class ForgetsVote(JournalEngine):
    """Keeps in memory what has nothing to do with entries."""

    def commit(self, changes: Sequence[Change]) -> None:
        if all(self.logs().count(each.log) and _only_meta(each) for each in changes):
            MemoryEngine.commit(self, changes)
        else:
            super().commit(changes)


def _only_meta(change: Change) -> bool:
    return not (change.rows or change.drop or change.delete_below) and change.delete_from is None


class MixesGroups(JournalEngine):
    """Replays all rows of a commit into its first log."""

    def replay(self, changes: Sequence[Change]) -> None:
        rows = [row for change in changes for row in change.rows]
        super().replay([replace(each, rows=() if at else rows) for at, each in enumerate(changes)])


class SharesRows(JournalEngine):
    """Looks up rows by their index alone."""

    def rows(self, log: bytes, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        found = super().rows(log, first, last, limit)
        for other in self.logs():
            found = found or super().rows(other, first, last, limit)
        return found


class SwallowsErrors(JournalEngine):
    """Takes no notice of a sync that fails."""

    def sync(self) -> None:
        with suppress(OSError):
            super().sync()


class TriesAgain(JournalEngine):
    """Repeats a sync that failed; the second one finds nothing to do and succeeds."""

    def sync(self) -> None:
        try:
            super().sync()
        except OSError:
            super().sync()


class SwallowsWrites(JournalEngine):
    """Takes no notice of a write that fails."""

    def append(self, data: bytes) -> None:
        try:
            super().append(data)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise


class AcksFull(JournalEngine):
    """Goes on in memory when the disk is full."""

    def write(self, data: bytes) -> None:
        try:
            self.append(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        self.size += len(data)


class ServesUnsynced(JournalEngine):
    """Opens the journal as it lies there, in the kernel's cache or on the disk."""

    def settle(self) -> None:
        if not self.path.exists():
            super().settle()
            return
        self.file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(self.file, self.size)


class RewritesInPlace(JournalEngine):
    """Empties the journal before it writes it anew."""

    def settle(self) -> None:
        everything, self.size = frame(self.everything()), 0
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.write(everything)
        os.fsync(self.file)
        self.sync_directory()


class DropsAfterDamage(JournalEngine):
    """Takes the first damaged frame for the end of the journal."""

    def damaged(self, at: int) -> None:
        """Says nothing."""


class DiesOfDamage(JournalEngine):
    """Is killed by a frame that is damaged."""

    def damaged(self, at: int) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Maps(JournalEngine):
    """Nothing is wrong with it, but it writes through a mapping, and nobody can see what."""

    def append(self, data: bytes) -> None:
        os.ftruncate(self.file, self.size + len(data))
        with mmap.mmap(self.file, 0) as view:
            view[self.size :] = data
            view.flush()


class Trusts(JournalEngine):
    """Takes every frame of full length for a good one."""

    def body(self, content: bytes, at: int, *, torn: bool = False) -> bytes | None:
        whole = super().body(content, at)
        if whole is not None or torn or at + 8 > len(content):
            return whole
        length = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 8 : at + 8 + length]
        return body if len(body) == length else None


acks_early = made_of("journal-acks-early", AcksEarly)
acks_full = made_of("journal-acks-full", AcksFull)
dies_of_damage = made_of("journal-dies-of-damage", DiesOfDamage)
forgets_directory = made_of("journal-forgets-directory", ForgetsDirectory)
forgets_vote = made_of("journal-forgets-vote", ForgetsVote)
half_commits = made_of("journal-half-commits", HalfCommits)
maps = made_of("journal-maps", Maps)
mixes_groups = made_of("journal-mixes-groups", MixesGroups)
rewrites_in_place = made_of("journal-rewrites-in-place", RewritesInPlace)
serves_unsynced = made_of("journal-serves-unsynced", ServesUnsynced)
shares_rows = made_of("journal-shares-rows", SharesRows)
splits_batches = made_of("journal-splits-batches", SplitsBatches)
swallows_errors = made_of("journal-swallows-errors", SwallowsErrors)
swallows_writes = made_of("journal-swallows-writes", SwallowsWrites)
tries_again = made_of("journal-tries-again", TriesAgain)
truncates_lazily = made_of("journal-truncates-lazily", TruncatesLazily)
