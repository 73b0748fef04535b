"""A disk that a test makes fail while it runs: ``switched+`` before a store's name.

The faults are in a file of the node's data directory (`FILE`), which is looked at before each commit, so
that another process can order them. How many syncs have failed so far is in another one (`FAILED`): each file
has one writer, so that neither process undoes what the other one has just written. Both are written whole and
put in place at once.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import msgspec

from mosaik.primitives.errors import ConfigError, StorageFull
from mosaik.storage import StorageEnvironment
from mosaik.testing.faults.wrapped import Batches, WrappedEnvironment, Wrapper

__all__ = [
    "FAILED",
    "FILE",
    "Ordered",
    "SwitchedEnvironment",
    "SwitchedOptions",
    "failed",
    "order",
    "ordered",
    "switched",
]

#: In the node's data directory: what is ordered, and how many syncs have failed.
FILE: Final = "mosaik.faults"
FAILED: Final = "mosaik.failed"


class Ordered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a disk does from now on.

    Attributes:
        fail_until: commits are written and their syncs fail until so many have, counted since the data
            directory was made; restarts do not begin the count anew.
        full: every commit is refused, as nothing more fits.
        delay: seconds that each commit takes longer.
    """

    fail_until: Annotated[int, msgspec.Meta(ge=0)] = 0
    full: bool = False
    delay: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0


_decode: Final = msgspec.json.Decoder(Ordered).decode
_NOTHING: Final = Ordered()


def order(data_dir: Path, what: Ordered) -> None:
    """Tells the disk of the node in this directory what to do."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # the node may start later
    _put(data_dir / FILE, msgspec.json.encode(what))


def ordered(data_dir: Path) -> Ordered:
    """What the disk of the node in this directory was told."""
    try:
        return _decode((data_dir / FILE).read_bytes())
    except FileNotFoundError:
        return _NOTHING


def failed(data_dir: Path) -> int:
    """How many syncs of the node in this directory have failed as ordered."""
    try:
        return int((data_dir / FAILED).read_bytes())
    except FileNotFoundError:
        return 0


def _put(path: Path, content: bytes) -> None:
    draft = path.with_suffix(f"{path.suffix}.draft")
    draft.write_bytes(content)
    draft.replace(path)


class SwitchedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There are none: a test orders."""


class SwitchedEnvironment(WrappedEnvironment):
    """Does what is ordered."""

    def __init__(self, inner: StorageEnvironment, data_dir: Path) -> None:
        super().__init__("switched", inner)
        self._data_dir = data_dir

    def write(self, batches: Batches) -> None:
        if all(batch.is_empty for _, batch in batches):
            super().write(batches)
            return
        what = ordered(self._data_dir)
        if what.full:
            raise StorageFull("the disk is full, as ordered", url=self.describe().url)
        super().write(batches)
        if what.delay:
            # Nothing is waited for: a slow disk is one that takes this long.
            time.sleep(what.delay)
        if what.fail_until and (times := failed(self._data_dir)) < what.fail_until:
            _put(self._data_dir / FAILED, b"%d" % (times + 1))
            raise self.poison(OSError(errno.EIO, "the sync fails, as ordered"))


class _Switched(Wrapper[SwitchedOptions]):
    def connect(
        self,
        inner: StorageEnvironment,
        options: SwitchedOptions,
        opened: ExitStack,
        *,
        data_dir: Path | None,
        peer: bytes,
    ) -> WrappedEnvironment:
        del options, opened, peer
        if data_dir is None:
            raise ConfigError(
                f"a switched+ store is told what to do by the file {FILE} in the node's data directory, and "
                f"this node has none; set [network] data_dir"
            )
        return SwitchedEnvironment(inner, Path(os.fspath(data_dir)))


switched: Final = _Switched("switched", SwitchedOptions)
