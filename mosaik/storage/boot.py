"""Which start of the machine this is: what a process left unsynced survives until the next one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Final

__all__ = ["boot_id"]

_SOURCE: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """16 bytes that change when the machine restarts.

    Where the kernel does not tell, every call gives another value: then each opening counts as one
    after a restart, which costs a store its content and never an acknowledgement its truth.
    """
    try:
        return uuid.UUID(_SOURCE.read_text().strip()).bytes
    except (OSError, ValueError):
        return os.urandom(16)
