"""Bytes that change by themselves: which, how, and what a store makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mosaik.testing.storage.crash import lay_out
from mosaik.testing.storage.disk import SECTOR, Tree
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.rule import NotApplicable
from mosaik.testing.storage.survey import Survey, files
from mosaik.testing.storage.workers import Ended, Silent

__all__ = [
    "HEAD",
    "LAST",
    "SEED",
    "Damage",
    "Image",
    "Outcome",
    "Stored",
    "sites",
    "store",
    "try_damage",
]

#: The history that is stored: about a thousand entries.
SEED: Final = "long 0"
#: Its last step.
LAST: Final = 32
#: Bytes at a file's beginning that hold headers and meta pages.
HEAD: Final = 8192


class Outcome(StrEnum):
    """What became of damage."""

    DETECTED = "detected"
    ABSENT = "absent"
    SUSPECT = "suspect"
    #: The damaged batch, or its part in one log, is not there, as if it had never been written.
    DROPPED = "dropped"
    #: The process died of it, or did not come to an end; verifying then named it.
    CRASHED = "crashed"
    #: Any of what must not be.
    MISSED = "missed"


class Image(NamedTuple):
    """A store's files.

    Attributes:
        name: when they were taken, for people.
        tree: the files.
        before: the files before the last batch was written.
        last: the last step that is in it.
        marked: everything in it was acknowledged long ago.
        stores: the ids of the logs' stores.
    """

    name: str
    tree: Tree
    before: Tree
    last: int
    marked: bool
    stores: tuple[str, ...]

    @property
    def contents(self) -> Mapping[str, bytes]:
        """The files that are not empty."""
        return {path: content for path, content in self.tree.items() if content}

    def fresh(self, path: str) -> list[int]:
        """The bytes of a file that the last batch changed."""
        old, new = self.before.get(path) or b"", self.tree[path] or b""
        return [at for at in range(len(new)) if old[at : at + 1] != new[at : at + 1]]


class Damage(NamedTuple):
    """What is done to one file.

    Attributes:
        kind: ``flip`` of one bit, ``zero`` of up to a sector, ``cut`` of the rest.
        amount: which bit, or how many bytes.
    """

    path: str
    at: int
    kind: str
    amount: int = 0

    def applied(self, tree: Tree) -> Tree:
        """The files afterwards."""
        content = bytearray(tree[self.path] or b"")
        if self.kind == "flip":
            content[self.at] ^= 1 << self.amount
        elif self.kind == "zero":
            end = min(len(content), self.at + self.amount)
            content[self.at : end] = bytes(end - self.at)
        else:
            del content[self.at :]
        return {**tree, self.path: bytes(content)}

    def __str__(self) -> str:
        how = {
            "flip": f"bit {self.amount} flipped",
            "zero": f"{self.amount} bytes zeroed",
            "cut": "cut",
        }
        return f"{self.path}, {how[self.kind]} at byte {self.at}"


class Stored(NamedTuple):
    """A store in the states in which damage may meet it.

    Attributes:
        killed: its process was killed when all was acknowledged and nothing under way.
        unmarked: the same, just after one more batch.
        closed: closed cleanly.
    """

    place: Path
    killed: Image
    unmarked: Image
    closed: Image


def store(ground: Ground) -> Stored:
    """Writes the history, part of it in an earlier opening.

    Raises:
        NotApplicable: the store keeps no files here.
    """
    place = ground.quick("damage")
    url = ground.subject.url(place)
    worker = ground.fork()
    worker.do("open", url, str(place))
    if not ground.subject.files(place):
        raise NotApplicable("the store keeps no files here")
    worker.run(SEED, 1, LAST // 2)
    worker.do("close")
    worker.do("open", url, str(place))
    worker.run(SEED, LAST // 2 + 1, LAST - LAST // 2 - 2)
    before = files(place)
    worker.run(SEED, LAST - 1, 1)
    worker.do("idle")
    killed = files(place)
    worker.run(SEED, LAST, 1)
    unmarked = files(place)
    stores = worker.read(SEED, LAST, url, place).stores
    worker.do("close")
    closed = files(place)
    return Stored(
        place,
        Image("killed", killed, before, LAST - 1, True, stores),
        Image("killed after one more batch", unmarked, killed, LAST, False, stores),
        Image("closed", closed, killed, LAST, True, stores),
    )


def sites(image: Image, rng: random.Random) -> Iterator[Damage]:
    """Damage without end: in turn at the beginning of a file, in the last batch, and anywhere; of every
    file that there is as often as of any other."""
    contents = image.contents
    fresh = {path: found for path in contents if (found := image.fresh(path))}
    while True:
        for path, content in contents.items():
            yield _damage(path, rng.randrange(min(HEAD, len(content))), rng)
            if path in fresh:
                yield _damage(path, rng.choice(fresh[path]), rng)
            yield _damage(path, rng.randrange(len(content)), rng)


def _damage(path: str, at: int, rng: random.Random) -> Damage:
    kind = rng.choice(["flip", "flip", "flip", "zero", "cut"])
    return Damage(path, at, kind, rng.randrange(8) if kind == "flip" else rng.randint(1, SECTOR))


def try_damage(ground: Ground, place: Path, image: Image, tree: Tree) -> tuple[Outcome, Reading]:
    """What the store makes of these files, which were its image, in a process of its own."""
    found = Survey(ground, place, SEED, image.last, alone=True).found(tree)
    if found.outcome == "refused":
        return Outcome.DETECTED, found
    if found.outcome in {"crashed", "hung"}:
        named = _verified(ground, place, tree)
        outcome = Outcome.CRASHED if named.startswith("refused") else Outcome.MISSED
        detail = f"{found.detail}; and verifying it in another process: {named}"
        return outcome, msgspec.structs.replace(found, detail=detail)
    if found.stores and found.stores != image.stores:
        return Outcome.MISSED, found
    if found.outcome == "state" and found.step == image.last:
        return Outcome.ABSENT, found
    if found.outcome == "suspect" and found.step == image.last:
        # What was acknowledged long ago is served, and only what would lie behind it suspected.
        right = found.served == image.last or not image.marked
        return Outcome.SUSPECT if right else Outcome.MISSED, found
    if not image.marked and min(found.each, default=-1) >= image.last - 1:
        # Each log may have lost its own part of the batch, of which no mark has been made yet.
        return Outcome.DROPPED, found
    return Outcome.MISSED, found


def _verified(ground: Ground, place: Path, tree: Tree) -> str:
    """What a process says that verifies the store."""
    lay_out(tree, place)
    worker = ground.fork()
    worker.tell("verify", ground.subject.url(place), str(place))
    try:
        return worker.until("verified", "refused", "untyped")[-1]
    except (Ended, Silent) as error:
        return str(error)
    finally:
        worker.close()
