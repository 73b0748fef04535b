"""What a process asks of the kernel, watched or answered wrongly by strace, for as long as a block lasts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["Call", "needs_strace", "traced"]

SYNCS = frozenset({"fdatasync", "fsync"})
_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>.*)$")


class Call(NamedTuple):
    """One system call: its name and what strace shows of arguments and result."""

    name: str
    rest: str


@contextmanager
def traced(*calls: str, inject: str = "") -> Generator[list[Call]]:
    """Traces all threads of this process; the list is filled when the block has ended.

    Args:
        calls: names of system calls.
        inject: what strace is to do to them, as in ``fdatasync:error=EIO:when=1``.
    """
    found: list[Call] = []
    with tempfile.NamedTemporaryFile("r") as log:
        command = ["strace", "-f", "-p", str(os.getpid()), "-o", log.name]
        command += ["-e", f"trace={','.join(calls)}"]
        if inject:
            command += ["-e", f"inject={inject}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            if "attached" not in line:
                raise RuntimeError(f"strace cannot attach: {line}{strace.stderr.read()}")
            try:
                yield found
            finally:
                strace.terminate()
                strace.stderr.read()
        for line in log:
            # A call that another thread's interrupts is on two lines; its first has the arguments.
            if (match := _CALL.match(line)) and match[2] is not None:
                found.append(Call(match[1], match[2]))


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    try:
        with traced("fdatasync") as calls, tempfile.TemporaryDirectory() as directory:
            descriptor = os.open(Path(directory, "file"), os.O_CREAT | os.O_WRONLY)
            os.fdatasync(descriptor)
            os.close(descriptor)
    except RuntimeError:
        return False
    return [call.name for call in calls] == ["fdatasync"]


needs_strace = pytest.mark.skipif(
    not _can_trace(), reason="strace is missing, or may not trace this process"
)
