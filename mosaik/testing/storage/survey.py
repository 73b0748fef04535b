"""Opening what is left of a store, over and over, in processes that may die of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mosaik.testing.storage.crash import lay_out
from mosaik.testing.storage.disk import Tree
from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.history import Reading
from mosaik.testing.storage.rule import NotAttested
from mosaik.testing.storage.workers import Ended, Silent, Worker

__all__ = ["Survey", "files"]

#: Seconds in which a small store is opened and read, or is taken to hang.
_PATIENCE: Final = 10.0
#: Bytes of a store that can be laid out again and again.
_MOST: Final = 64 << 20


def files(place: Path) -> Tree:
    """What lies in a directory: what a process leaves that is killed now.

    Raises:
        NotAttested: it is too much to be laid out again and again.
    """
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    if size > _MOST:
        raise NotAttested(
            f"a small store takes {size} bytes on the disk, too many to try it hundreds of times; give the "
            f"kit a URL with options that keep it small"
        )
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in sorted(place.rglob("*"))
        if path.is_file() or path.is_dir()
    }


class Survey:
    """Reads stores at one place, each time with other files there.

    A process reads several of them, as long as they open; the next one after any trouble has another.

    Args:
        seed: of the history that was written.
        limit: the last step of it that there can be.
        alone: every reading has a process of its own.
    """

    def __init__(
        self, ground: Ground, place: Path, seed: int | str, limit: int, *, alone: bool = False
    ) -> None:
        self._ground = ground
        self._place = place
        self._url = ground.subject.url(place)
        self._seed = seed
        self._limit = limit
        self._alone = alone
        self._worker: Worker | None = None

    def found(self, tree: Tree) -> Reading:
        """What the store holds if these are its files. It stays open if it could be opened."""
        self.close()
        lay_out(tree, self._place)
        return self._read()

    def found_again(self) -> Reading:
        """What it holds if the process is killed now, and the store opened again."""
        left = files(self._place)
        self.close()
        lay_out(left, self._place)
        return self._read()

    def reread(self) -> Reading:
        """What it holds as it lies there."""
        self.close()
        return self._read()

    def close(self) -> None:
        """Closes the store."""
        if self._worker is not None and self._worker.ask("close") != "closed":
            self._retire()

    def _retire(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _read(self) -> Reading:
        if self._worker is None:
            self._worker = self._ground.fork()
        try:
            found = self._worker.read(
                self._seed, self._limit, self._url, self._place, patience=_PATIENCE
            )
        except Ended as error:
            found = Reading("crashed", detail=str(error))
        except Silent as error:
            found = Reading("hung", detail=str(error))
        if self._alone or found.outcome not in {"state", "suspect"}:
            self._retire()
        return found
