"""Writing a backup's bytes into a file, off the event loop: there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mosaik.primitives.digest import short
from mosaik.primitives.errors import StorageFull, StorageUnavailable
from mosaik.storage.transfer import Report

__all__ = ["backup_path", "write_backup"]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def backup_path(target: Path, peer: bytes, now: datetime | None = None) -> Path:
    """The file that a backup goes to: the target, or in a directory one named after node and time."""
    if not target.is_dir():
        return target
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    return target / f"mosaik-{short(peer)}-{moment}.backup"


async def write_backup(
    path: Path, pieces: AsyncIterator[bytes], report: Report | None = None
) -> int:
    """Writes a backup's bytes into a file that was not there, readable by its owner alone.

    Args:
        path: the file. While it is written its name ends with ``.part``.
        pieces: the bytes.
        report: is called with the number of bytes written since the last call.

    Returns:
        Its size.

    Raises:
        StorageUnavailable: there is such a file, or it cannot be written. `StorageFull`: no room for it.
        Whatever the pieces raise; then nothing is left behind.
    """
    partial = path.with_name(path.name + ".part")
    try:
        if await asyncio.to_thread(path.exists):
            raise StorageUnavailable(
                f"{path} is there already; a backup is never written over another"
            )
        return await _write(partial, path, pieces, report)
    except FileExistsError as error:
        raise StorageUnavailable(
            f"{partial} is there: another backup is being written, or one was killed; remove it if "
            f"nobody is writing it"
        ) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"there is no room for the backup at {path}") from error
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror or error}") from error


async def _write(
    partial: Path, path: Path, pieces: AsyncIterator[bytes], report: Report | None
) -> int:
    import aiofiles

    size = 0
    async with aiofiles.open(partial, "xb", opener=_open_for_owner) as file:
        try:
            async for piece in pieces:
                await file.write(piece)
                size += len(piece)
                if report is not None:
                    report(len(piece))
            await file.flush()
            await asyncio.to_thread(_publish, file.fileno(), partial, path)
        except BaseException:
            await asyncio.to_thread(partial.unlink, missing_ok=True)
            raise
    return size


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _publish(descriptor: int, partial: Path, path: Path) -> None:
    """Syncs the file, gives it its name, and syncs the name."""
    os.fsync(descriptor)
    partial.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
