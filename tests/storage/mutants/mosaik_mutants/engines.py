"""Journals with one thing wrong each."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from mosaik.storage import Capability, Change, Description
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


class CutsLast(JournalEngine):
    """Puts new rows before it removes the old ones, and some of the new with them."""

    def commit(self, changes: Sequence[Change]) -> None:
        self.write(frame(changes))
        self.sync()
        self.replay(changes)

    def replay(self, changes: Sequence[Change]) -> None:
        for change in changes:
            super().replay([replace(change, delete_from=None)])
            super().replay([Change(log=change.log, delete_from=change.delete_from)])


class KeepsTails(JournalEngine):
    """Does not repeat, when it is opened again, what was cut off."""

    def open(self) -> None:
        self.replay = self.replay_without_cuts  # type: ignore[method-assign]
        super().open()
        del self.replay

    def replay_without_cuts(self, changes: Sequence[Change]) -> None:
        MemoryEngine.commit(self, [replace(each, delete_from=None) for each in changes])


class Buffers(JournalEngine):
    """Writes a commit when the next one comes, and the last one never."""

    waiting: Sequence[Change] | None = None

    def commit(self, changes: Sequence[Change]) -> None:
        if self.waiting is not None:
            self.write(frame(self.waiting))
            self.sync()
        self.waiting = changes
        MemoryEngine.commit(self, changes)


class DeniesSharing(JournalEngine):
    """Syncs once for all logs of a commit, and does not say so."""

    def describe(self) -> Description:
        told = super().describe()
        return replace(told, capabilities=told.capabilities - {Capability.SHARED_SYNC})


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


class SyncsAsItLies(ServesUnsynced):
    """Syncs what it opens; but no sync writes what an earlier one failed to write."""

    def settle(self) -> None:
        super().settle()
        os.fsync(self.file)
        self.sync_directory()


class SettlesRegardless(JournalEngine):
    """Opens although what it wrote anew could not be synced."""

    def sync_new(self) -> None:
        with suppress(OSError):
            super().sync_new()


class RewritesInPlace(JournalEngine):
    """Empties the journal before it writes it anew."""

    def settle(self) -> None:
        everything, self.size = frame(self.everything()), 0
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.write(everything)
        os.fsync(self.file)
        self.sync_directory()


class OpensSlowly(RewritesInPlace):
    """Takes its time between emptying the journal and writing it anew."""

    def write(self, data: bytes) -> None:
        if self.size == 0:
            time.sleep(0.2)
        super().write(data)


class FallsBack(JournalEngine):
    """Keeps the journal of the opening before, and takes it when the newer one is gone."""

    def open(self) -> None:
        older = self.path.with_name("journal.old")
        if self.path.exists():
            older.write_bytes(self.path.read_bytes())
        elif older.exists():
            older.rename(self.path)
        super().open()


class DropsAfterDamage(JournalEngine):
    """Takes the first damaged frame for the end of the journal."""

    def damaged(self, at: int) -> None:
        """Says nothing."""


class DiesOfDamage(JournalEngine):
    """Is killed by a frame that is damaged."""

    def damaged(self, at: int) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class DiesOfHoles(JournalEngine):
    """Is killed by a last frame that is as long as it should be, and yet not whole."""

    def body(self, content: bytes, at: int, *, torn: bool = False) -> bytes | None:
        whole = super().body(content, at, torn=torn)
        length = int.from_bytes(content[at : at + 4], "big")
        if whole is None and length and at + 8 + length == len(content):
            os.kill(os.getpid(), signal.SIGSEGV)
        return whole


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
buffers = made_of("journal-buffers", Buffers)
cuts_last = made_of("journal-cuts-last", CutsLast)
denies_sharing = made_of("journal-denies-sharing", DeniesSharing)
dies_of_holes = made_of("journal-dies-of-holes", DiesOfHoles)
dies_of_damage = made_of("journal-dies-of-damage", DiesOfDamage)
forgets_directory = made_of("journal-forgets-directory", ForgetsDirectory)
forgets_vote = made_of("journal-forgets-vote", ForgetsVote)
half_commits = made_of("journal-half-commits", HalfCommits)
keeps_tails = made_of("journal-keeps-tails", KeepsTails)
maps = made_of("journal-maps", Maps)
mixes_groups = made_of("journal-mixes-groups", MixesGroups)
opens_slowly = made_of("journal-opens-slowly", OpensSlowly)
rewrites_in_place = made_of("journal-rewrites-in-place", RewritesInPlace)
serves_unsynced = made_of("journal-serves-unsynced", ServesUnsynced)
settles_regardless = made_of("journal-settles-regardless", SettlesRegardless)
shares_rows = made_of("journal-shares-rows", SharesRows)
splits_batches = made_of("journal-splits-batches", SplitsBatches)
swallows_errors = made_of("journal-swallows-errors", SwallowsErrors)
swallows_writes = made_of("journal-swallows-writes", SwallowsWrites)
syncs_as_it_lies = made_of("journal-syncs-as-it-lies", SyncsAsItLies)
trusts = made_of("journal-trusts", Trusts)
tries_again = made_of("journal-tries-again", TriesAgain)
truncates_lazily = made_of("journal-truncates-lazily", TruncatesLazily)
