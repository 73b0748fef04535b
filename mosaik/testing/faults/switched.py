"""A disk that a test makes fail while it runs: ``switched+`` before a store's name.

The faults are in a file of the node's data directory (`FILE`), which is looked at before each commit, so
that another process can order them. It is written whole and put in place at once.
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

__all__ = ["FILE", "Ordered", "SwitchedEnvironment", "SwitchedOptions", "order", "switched"]

#: In the node's data directory.
FILE: Final = "mosaik.faults"


class Ordered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a disk does from now on.

    Attributes:
        fail_sync: the next commit is written, and then its sync fails; once.
        full: every commit is refused, as nothing more fits.
        delay: seconds that each commit takes longer.
    """

    fail_sync: bool = False
    full: bool = False
    delay: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0


_decode: Final = msgspec.json.Decoder(Ordered).decode
_NOTHING: Final = Ordered()


def order(data_dir: Path, ordered: Ordered) -> None:
    """Tells the disk of the node in this directory what to do."""
    path = data_dir / FILE
    if ordered == _NOTHING:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(ordered))
    draft.replace(path)


class SwitchedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There are none: a test orders."""


class SwitchedEnvironment(WrappedEnvironment):
    """Does what is ordered."""

    def __init__(self, inner: StorageEnvironment, data_dir: Path) -> None:
        super().__init__("switched", inner)
        self._data_dir = data_dir

    def write(self, batches: Batches) -> None:
        ordered = self._ordered()
        if ordered.full:
            raise StorageFull("the disk is full, as ordered", url=self.describe().url)
        super().write(batches)
        if ordered.delay:
            # Nothing is waited for: a slow disk is one that takes this long.
            time.sleep(ordered.delay)
        if ordered.fail_sync:
            order(self._data_dir, msgspec.structs.replace(ordered, fail_sync=False))
            raise self.poison(OSError(errno.EIO, "the sync fails, as ordered"))

    def _ordered(self) -> Ordered:
        try:
            return _decode((self._data_dir / FILE).read_bytes())
        except FileNotFoundError:
            return _NOTHING


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
