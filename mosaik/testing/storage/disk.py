"""What a disk may hold after the power failed.

Theory of operation
-------------------
A file is what is *durable* of it and the changes since, in order, each of them *pending* until a sync of
that file completes. A directory is the same, with names for bytes: a file that was made, renamed or removed
is so for certain once its directory was synced. A sync covers the changes that had returned before it
began. A sync that *failed* leaves changes *doubtful*: the kernel marks their pages clean, so that no later
sync writes them, and whether they ever reach the disk nobody knows. Names are merely pending then: they are
in the file system's journal, which stops for good when a write to it fails (``jbd2_journal_abort``), so that
a later sync either writes them or fails as well.

A `Moment` is the disk at one time; with any choice of what was not durable then it gives a `Tree` that a
machine may find when it starts again. Some choices no file system makes, and they are left out: names in one
directory change in order; nothing is there of a file's changes after a cut that is not; and a file grows
from its front, so that bytes appended later are not there without those before them. The last of these
does not hold where a file system writes the length before the bytes: see ``holes``. A write is torn at
multiples of 512 bytes of the file.

`mosaik.testing.storage.replay` makes the changes out of system calls.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final, NamedTuple

__all__ = ["SECTOR", "Change", "Disk", "Lasting", "Moment", "Node", "Tree"]

SECTOR: Final = 512
#: Paths below the root, and what is there: a file's bytes, or None for a directory.
Tree = Mapping[str, bytes | None]


class Lasting(Enum):
    """Whether a change is on the disk."""

    DURABLE = auto()
    PENDING = auto()
    DOUBTFUL = auto()


class Change(NamedTuple):
    """One change of a file or of directories.

    Attributes:
        number: in the order of all changes.
        nodes: what it changes.
        call: what made it, for people.
        at, data: of a write.
        size: what a file is cut or lengthened to; None for any other change.
        names: of a change of directories: directory, name, and the node that it then names, if any.
        grows: a write that made the file longer.
    """

    number: int
    nodes: tuple[int, ...]
    call: str
    at: int = 0
    data: bytes = b""
    size: int | None = None
    names: tuple[tuple[int, str, int | None], ...] = ()
    grows: bool = False

    @property
    def orders(self) -> bool:
        """Whether later changes of the same nodes are never there without it."""
        return self.size is not None or bool(self.names)

    @property
    def sectors(self) -> list[tuple[int, int]]:
        """A write's parts that reach the disk each by itself: start and end in its data."""
        end = self.at + len(self.data)
        first = (self.at // SECTOR + 1) * SECTOR
        cuts = [self.at, *range(first, end, SECTOR), end]
        return [(start - self.at, stop - self.at) for start, stop in pairwise(cuts)]


class _Made(NamedTuple):
    """A change, whether it is on the disk, and when the call that made it returned."""

    change: Change
    lasting: Lasting
    ended: int


class Node:
    """A file or directory: what is durable of it, and the changes since.

    Attributes:
        size: of the file as everybody sees it.
        mapped: somebody writes to it where that cannot be seen.
        synced: it is synced now and then, so what it holds matters.
    """

    def __init__(self, number: int, *, directory: bool) -> None:
        self.number: Final = number
        self.directory: Final = directory
        self.content = b""
        self.names: dict[str, int] = {}
        self.changes: list[_Made] = []
        self.size = 0
        self.mapped = False
        self.synced = directory

    def settle(self, numbers: Collection[int], lasting: Lasting) -> None:
        """Says what has become of changes; durable ones at the front become part of what is there."""
        self.changes = [
            made._replace(lasting=lasting) if made.change.number in numbers else made
            for made in self.changes
        ]
        done = 0
        while done < len(self.changes) and self.changes[done].lasting is Lasting.DURABLE:
            done += 1
        front = [made.change for made in self.changes[:done]]
        if self.directory:
            self.names = _named(self.number, self.names, front)
        else:
            self.content = _written(self.content, front, {})
        del self.changes[:done]

    def entries(self) -> dict[str, int]:
        """What the directory names, as everybody sees it."""
        return _named(self.number, self.names, [made.change for made in self.changes])


def _named(directory: int, names: Mapping[str, int], changes: Iterable[Change]) -> dict[str, int]:
    found = dict(names)
    for change in changes:
        for where, name, target in change.names:
            if where != directory:
                continue
            found.pop(name, None)
            if target is not None:
                found[name] = target
    return found


def _written(base: bytes, changes: Sequence[Change], torn: Mapping[int, Collection[int]]) -> bytes:
    if not changes:
        return base
    found = bytearray(base)
    for change in changes:
        if change.size is not None:
            del found[change.size :]
            found.extend(bytes(change.size - len(found)))
            continue
        kept = torn.get(change.number)
        for number, (start, end) in enumerate(change.sectors):
            if kept is None or number in kept:
                at = change.at + start
                found.extend(bytes(max(0, at - len(found))))
                found[at : change.at + end] = change.data[start:end]
    return bytes(found)


class _Held(NamedTuple):
    """A node as it was at a moment."""

    node: Node
    content: bytes
    names: Mapping[str, int]
    changes: Sequence[_Made]


class Moment:
    """The disk as it may be found if the power fails just now.

    Attributes:
        acknowledged: the last step whose acknowledgement had been given; -1 before the store was open.
        before: what was about to happen.
        said: the answer that was given just before, if one was.
    """

    def __init__(
        self, nodes: Sequence[Node], acknowledged: int, before: str, said: str = ""
    ) -> None:
        self.acknowledged: Final = acknowledged
        self.before: Final = before
        self.said: Final = said
        self._nodes: Final = [_Held(n, n.content, n.names, tuple(n.changes)) for n in nodes]
        loose = {
            made.change.number: made
            for held in self._nodes
            for made in held.changes
            if made.lasting is not Lasting.DURABLE
        }
        self._loose: Final = [loose[number] for number in sorted(loose)]

    @cached_property
    def open(self) -> list[Change]:
        """The changes that need not be there, of files that are synced now and then."""
        return [made.change for made in self._loose if self._matters(made.change)]

    @cached_property
    def careless(self) -> list[Change]:
        """The same of files that are never synced; what they hold should matter to nobody."""
        return [made.change for made in self._loose if not self._matters(made.change)]

    def _matters(self, change: Change) -> bool:
        # Asked late: whether a file is ever synced is known at the end.
        return any(self._nodes[number].node.synced for number in change.nodes)

    def possible(self, chosen: Collection[int], *, holes: bool = False) -> frozenset[int]:
        """Those of the chosen changes that a file system may have written without the others.

        Args:
            holes: bytes may be there without others that were appended before them.
        """
        stopped: set[int] = set()
        short: set[int] = set()
        kept: set[int] = set()
        for change, lasting, _ in self._loose:
            stuck = not stopped.isdisjoint(change.nodes)
            if change.grows and not holes:
                stuck = stuck or not short.isdisjoint(change.nodes)
            if change.number in chosen and not stuck:
                kept.add(change.number)
            elif lasting is Lasting.PENDING and change.orders:
                stopped.update(change.nodes)
            elif lasting is Lasting.PENDING and change.grows:
                short.update(change.nodes)
        return frozenset(kept)

    def certain(self, path: str) -> bool:
        """Whether a path names after any crash what it names now."""
        number: int | None = 0
        for name in PurePosixPath(path).parts:
            if number is None:
                return False
            held = self._nodes[number]
            durable = [m.change for m in held.changes if m.lasting is Lasting.DURABLE]
            number = _named(number, held.names, durable).get(name)
            every = [made.change for made in held.changes]
            if number != _named(held.node.number, held.names, every).get(name):
                return False
        return number is not None

    def tree(
        self, kept: Collection[int], torn: Mapping[int, Collection[int]] | None = None
    ) -> Tree:
        """All files, if of the changes in doubt these reached the disk.

        Args:
            torn: of which of them only these sectors did.
        """
        found: dict[str, bytes | None] = {}

        def walk(number: int, path: str) -> None:
            held = self._nodes[number]
            there = [
                made.change
                for made in held.changes
                if made.lasting is Lasting.DURABLE or made.change.number in kept
            ]
            if not held.node.directory:
                found[path] = _written(held.content, there, torn or {})
                return
            if path:
                found[path] = None
            for name, target in _named(number, held.names, there).items():
                walk(target, f"{path}/{name}" if path else name)

        walk(0, "")
        return found


class Disk:
    """Files below a directory that was empty, and all that happened to them.

    Attributes:
        acknowledged: see `Moment`.
        moments: those that were noted, in their order.
    """

    def __init__(self) -> None:
        self._nodes = [Node(0, directory=True)]
        self._numbers = 0
        self.acknowledged = -1
        self.moments: list[Moment] = []

    def note(self, before: str, said: str = "") -> Moment:
        """Keeps the disk as it is now."""
        moment = Moment(self._nodes, self.acknowledged, before, said)
        self.moments.append(moment)
        return moment

    @property
    def nodes(self) -> Sequence[Node]:
        """Every file and directory that there ever was."""
        return self._nodes

    def find(self, path: str) -> Node | None:
        """What has this path below the root, as everybody sees it."""
        node = self._nodes[0]
        for name in PurePosixPath(path).parts:
            number = node.entries().get(name)
            if number is None:
                return None
            node = self._nodes[number]
        return node

    def make(self, path: str, call: str, ended: int, *, directory: bool) -> Node:
        """A file or directory is made."""
        node = Node(len(self._nodes), directory=directory)
        self._nodes.append(node)
        self.name([(path, node.number)], call, ended)
        return node

    def name(self, names: Sequence[tuple[str, int | None]], call: str, ended: int) -> None:
        """Paths are given to nodes, or to none, all at once.

        Raises:
            KeyError: a directory on the way is not known.
        """
        changed: list[tuple[int, str, int | None]] = []
        for path, target in names:
            parent = self.find(str(PurePosixPath(path).parent))
            if parent is None:
                raise KeyError(path)
            changed.append((parent.number, PurePosixPath(path).name, target))
        nodes = tuple(dict.fromkeys(number for number, _, _ in changed))
        self._add(Change(self._numbers, nodes, call, names=tuple(changed)), ended)

    def write(self, node: Node, at: int, data: bytes, call: str, ended: int) -> Change:
        """Bytes are written to a file."""
        grows = at + len(data) > node.size
        node.size = max(node.size, at + len(data))
        change = Change(self._numbers, (node.number,), call, at, data, grows=grows)
        self._add(change, ended)
        return change

    def resize(self, node: Node, size: int, call: str, ended: int) -> None:
        """A file is cut, or lengthened with zeros."""
        if size != node.size:
            node.size = size
            self._add(Change(self._numbers, (node.number,), call, size=size), ended)

    def _add(self, change: Change, ended: int) -> None:
        self._numbers += 1
        for number in change.nodes:
            self._nodes[number].changes.append(_Made(change, Lasting.PENDING, ended))

    def sync(self, synced: Sequence[Node], began: int, lasting: Lasting) -> None:
        """A sync of files or directories has completed, or failed.

        Args:
            began: only what had returned before is covered.
        """
        done = {
            made.change.number
            for node in synced
            if not (node.directory and lasting is Lasting.DOUBTFUL)
            for made in node.changes
            if made.lasting is Lasting.PENDING and made.ended < began
        }
        self.settle(done, lasting)
        for node in synced:
            node.synced = True

    def settle(self, numbers: Collection[int], lasting: Lasting) -> None:
        """Says what has become of changes."""
        for node in self._nodes:  # a rename is in two directories
            if any(made.change.number in numbers for made in node.changes):
                node.settle(numbers, lasting)
