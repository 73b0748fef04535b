"""From recorded system calls to a `Disk`.

What is written through a shared mapping cannot be seen. Unless such a file is synced its mapped content need
never reach the disk, so that nothing is assumed of it; if it is synced, nobody can say what the disk holds.
Whatever cannot be followed raises `NotAttested`, so that no verdict rests on half a recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from mosaik.testing.storage.disk import Disk, Lasting, Node
from mosaik.testing.storage.rule import NotAttested
from mosaik.testing.storage.trace import Call, Opened

__all__ = ["Replay"]

#: Calls that write where nothing shows what.
_UNSEEN: Final = frozenset({"io_uring_enter", "io_submit"})
_UNFOLLOWED: Final = frozenset(
    {"sendfile", "copy_file_range", "splice", "linkat", "link", "openat2"}
)
_SYNCS: Final = frozenset({"fsync", "fdatasync", "msync", "sync", "syncfs"})


class _File:
    """An open file description: a node and a position in it."""

    def __init__(self, node: Node, flags: str) -> None:
        self.node: Final = node
        self.append: Final = "O_APPEND" in flags
        self.synchronous: Final = "O_DSYNC" in flags or "O_SYNC" in flags
        self.position = 0


class Replay:
    """Makes a disk of what processes did, one after the other, each of which opened all its files itself.

    Args:
        root: the directory that is looked at, empty at first.

    Attributes:
        disk: what there is now.
    """

    def __init__(self, root: Path) -> None:
        self.disk: Final = Disk()
        self._root = str(root)
        self._files: dict[int, _File] = {}
        self._unheard: Call | None = None

    def process(self, calls: Iterable[Call]) -> Self:
        """Follows another process, from before it opened the store.

        Raises:
            NotAttested: something happened that cannot be followed.
        """
        self._files = {}
        return self.more(calls)

    def more(self, calls: Iterable[Call], unheard: Call | None = None) -> Self:
        """Follows the same process further.

        Args:
            unheard: one of the calls, of which it is assumed that it made nothing durable, but failed, and
                that the process died before it could act on that.
        """
        self._unheard = unheard
        for call in calls:
            try:
                self._follow(call)
            except KeyError as error:
                raise NotAttested(f"{call} uses what was never seen to be made: {error}") from error
        return self

    def _follow(self, call: Call) -> None:
        if call.said:
            self._hear(call.said)
        elif call.name in _UNSEEN:
            raise NotAttested(f"the store uses {call.name}, which writes where it cannot be seen")
        elif call.result >= 0 or call.name in _SYNCS:
            getattr(self, f"_do_{call.name}", self._other)(call)

    def _hear(self, said: str) -> None:
        word, _, number = said.partition(" ")
        if word == "ack":
            self.disk.acknowledged = int(number)
        elif word == "opened":
            self.disk.acknowledged = max(self.disk.acknowledged, 0)
        if word in {"ack", "opened"}:
            self.disk.note(f"anything after {said!r}", said)

    # -- names and files ------------------------------------------------------------------------------

    def _below(self, path: str) -> str | None:
        """A path below the root; None for one that lies elsewhere."""
        path = str(Path(path))
        if path == self._root:
            return ""
        return path.removeprefix(f"{self._root}/") if path.startswith(f"{self._root}/") else None

    def _path(self, call: Call, at: int = 0) -> str | None:
        """The ``at``-th path among the arguments, below the root."""
        path = call.strings[at].decode(errors="surrogateescape")
        opened = call.descriptors
        if not path.startswith("/"):
            if at >= len(opened):
                raise NotAttested(f"{call.name} uses a path relative to a place that is not known")
            path = f"{opened[at].path}/{path}"
        return self._below(path)

    def _file(self, opened: Opened) -> _File | None:
        """The file of a descriptor, if it lies below the root."""
        return None if self._below(opened.path) is None else self._files[opened.number]

    def _other(self, call: Call) -> None:
        """A call that changes nothing, or cannot be followed."""
        if call.name in _UNFOLLOWED and any(
            self._below(each.path) is not None for each in call.descriptors
        ):
            raise NotAttested(f"the store uses {call.name}, which is not followed")

    def _do_openat(self, call: Call) -> None:
        opened = call.opened
        if opened is None:
            return
        path = self._below(opened.path)
        if path is None:
            self._files.pop(opened.number, None)
            return
        if opened.deleted:
            raise NotAttested("the store makes files without a name")
        flags = call.text.rpartition('"')[2]
        node = self.disk.find(path)
        if node is None:
            node = self.disk.make(path, str(call), call.ended, directory=False)
        elif "O_TRUNC" in flags:
            self.disk.resize(node, 0, str(call), call.ended)
        self._files[opened.number] = _File(node, flags)

    _do_open = _do_creat = _do_openat

    def _do_dup(self, call: Call) -> None:
        old = self._file(call.descriptors[0])
        if old is None:
            self._files.pop(call.result, None)
        else:
            self._files[call.result] = old

    _do_dup2 = _do_dup3 = _do_dup

    def _do_mkdirat(self, call: Call) -> None:
        if path := self._path(call):
            self.disk.make(path, str(call), call.ended, directory=True)

    _do_mkdir = _do_mkdirat

    def _do_renameat2(self, call: Call) -> None:
        old, new = self._path(call, 0), self._path(call, 1)
        if old is None and new is None:
            return
        node = self.disk.find(old) if old else None
        if node is None or not old or not new or "RENAME_EXCHANGE" in call.text:
            raise NotAttested(f"the store renames {old} to {new}, which is not followed")
        self.disk.name([(old, None), (new, node.number)], str(call), call.ended)

    _do_rename = _do_renameat = _do_renameat2

    def _do_unlinkat(self, call: Call) -> None:
        if path := self._path(call):
            self.disk.name([(path, None)], str(call), call.ended)

    _do_unlink = _do_rmdir = _do_unlinkat

    # -- content --------------------------------------------------------------------------------------

    def _do_read(self, call: Call) -> None:
        file = self._files.get(int(call.text.partition(",")[0], 0))
        if file is not None:
            file.position += call.result

    _do_readv = _do_read

    def _do_lseek(self, call: Call) -> None:
        file = self._file(call.descriptors[0])
        if file is not None:
            file.position = call.result

    def _do_write(self, call: Call) -> None:
        file = self._file(call.descriptors[0])
        if file is None:
            return
        data = b"".join(call.strings)[: call.result]
        if len(data) < call.result:
            raise NotAttested(f"a write of {call.result} bytes is too long to be recorded")
        positioned = call.name.startswith("p")
        at = call.numbers[-2 if call.name == "pwritev2" else -1] if positioned else file.position
        if file.append:
            at = file.node.size
        if not positioned:
            file.position = at + len(data)
        change = self.disk.write(file.node, at, data, str(call), call.ended)
        if file.synchronous:
            file.node.synced = True
            self.disk.note(f"the end of {call}")
            self.disk.settle({change.number}, self._lasting(call))

    _do_writev = _do_pwrite64 = _do_pwritev = _do_pwritev2 = _do_write

    def _do_ftruncate(self, call: Call) -> None:
        file = self._file(call.descriptors[0])
        if file is not None:
            self.disk.resize(file.node, call.numbers[-1], str(call), call.ended)

    def _do_truncate(self, call: Call) -> None:
        path = self._path(call)
        node = self.disk.find(path) if path else None
        if node is not None:
            self.disk.resize(node, call.numbers[-1], str(call), call.ended)

    def _do_fallocate(self, call: Call) -> None:
        file = self._file(call.descriptors[0])
        if file is None or "KEEP_SIZE" in call.text:
            return
        if "FALLOC_FL" in call.text:
            raise NotAttested("the store uses fallocate to do more than to make room")
        size = max(file.node.size, sum(call.numbers[-2:]))
        self.disk.resize(file.node, size, str(call), call.ended)

    def _do_mmap(self, call: Call) -> None:
        if "MAP_SHARED" in call.text and "PROT_WRITE" in call.text and call.descriptors:
            file = self._file(call.descriptors[0])
            if file is not None:
                file.node.mapped = True

    # -- syncs ----------------------------------------------------------------------------------------

    def _do_fsync(self, call: Call) -> None:
        file = self._file(call.descriptors[0])
        if file is not None:
            if file.node.mapped:
                raise NotAttested(
                    "the store syncs a file that it writes to through a mapping, which cannot be seen"
                )
            self._sync([file.node], call)

    _do_fdatasync = _do_fsync

    def _do_sync(self, call: Call) -> None:
        self._sync([node for node in self.disk.nodes if not node.mapped], call)

    _do_syncfs = _do_sync

    def _do_msync(self, call: Call) -> None:
        # An address says nothing of the file; without a mapping that can be written to it is none of ours.
        del call
        if any(node.mapped for node in self.disk.nodes):
            raise NotAttested("the store writes through a mapping, and that cannot be seen")

    def _sync(self, nodes: list[Node], call: Call) -> None:
        self.disk.note(f"the end of {call}")
        self.disk.sync(nodes, call.began, self._lasting(call))

    def _lasting(self, call: Call) -> Lasting:
        failed = call.result < 0 or call is self._unheard
        return Lasting.DOUBTFUL if failed else Lasting.DURABLE
