"""What has to be looked at in RocksDB's files before RocksDB may see them.

Its MANIFEST and its write-ahead logs are sequences of records in blocks of 32 KiB, each record with a
checksum, a length and a type. These files are never reused here, yet RocksDB's reader takes a record whose
type says "of a recycled file" for a relic of an earlier one before it looks at the checksum, and waits for
more, for ever: a single flipped bit makes the opening hang, with the interpreter locked.

The settings of the last opening lie in an OPTIONS file without a checksum. Its driver reads them although
it is given others, and a single flipped bit there ends the whole process (SIGSEGV). Nothing of ours depends
on that file and RocksDB writes a new one, so it is removed first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mosaik.primitives.errors import CorruptEntry

__all__ = ["check_records", "forget_settings"]

_BLOCK: Final = 32 * 1024
#: Checksum, length, type.
_HEAD: Final = struct.Struct("<IHB")
#: Whole, first, middle and last part; 0 is room that was set aside and not written.
_KNOWN: Final = range(1, 5)


def check_records(directory: Path, url: str) -> None:
    """Refuses a database that holds a record of a type that RocksDB does not write with our settings.

    Says nothing of files that are not there, are cut short, or fail their checksums: RocksDB tells of those.

    Raises:
        CorruptEntry: it does.
    """
    for path in _files(directory):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        found = _unknown(content)
        if found is not None:
            raise CorruptEntry(
                0,
                f"RocksDB's {path.name} holds a record of an unknown type at byte {found}; restore the "
                f"store from a backup, or remove it and let this node join as a new replica",
                url=url,
            )


def forget_settings(directory: Path) -> None:
    """Removes what the last opening wrote of its settings."""
    for path in directory.glob("OPTIONS-*"):
        # Where nothing can be removed nothing can be written either, and the opening says so.
        with suppress(OSError):
            path.unlink()


def _files(directory: Path) -> Iterator[Path]:
    try:
        name = (directory / "CURRENT").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return
    yield directory / Path(name).name
    yield from sorted(directory.glob("*.log"))


def _unknown(content: bytes) -> int | None:
    """Where a record begins whose type is not known."""
    size, head = len(content), _HEAD.size
    for block in range(0, size, _BLOCK):
        at, end = block, min(block + _BLOCK, size) - head
        while at <= end:
            checksum, length, kind = _HEAD.unpack_from(content, at)
            if not checksum:
                return (
                    None  # the sector was never written, nor its length: what follows means nothing
                )
            if kind not in _KNOWN:
                return at if kind else None
            at += head + length
    return None
