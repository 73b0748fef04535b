"""Directories whose entries survive power loss: a file is only there if the name that leads to it is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["make_directory", "sync_directory"]


def make_directory(path: Path) -> None:
    """Makes a directory and those above it that are missing, for their owner alone, durably."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)
    path.mkdir(exist_ok=True)  # which raises if a file has the name


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable, which syncing the files themselves does not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
