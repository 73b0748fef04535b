"""What a child asked of the kernel, by strace, and what the kernel is made to answer it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Call", "calls", "missing", "tracer"]

_WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
_SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range")
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((\d+)?(?:<([^>]*)>)?(.*)\) += (-?\d+)(?:<([^>]*)>)?")
_UNFINISHED = re.compile(r"(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")


class Call(NamedTuple):
    """One call that came back.

    Attributes:
        thread: who called.
        name: of the system call.
        descriptor: that it is about; the new one of an ``openat``.
        path: of the file it is about; the one opened by an ``openat``.
        text: its arguments after the first.
        result: what it returned; negative when it failed.
    """

    thread: str
    name: str
    descriptor: int
    path: str
    text: str
    result: int

    @property
    def is_write(self) -> bool:
        """Whether it wrote to a file."""
        return self.name in _WRITES

    @property
    def is_sync(self) -> bool:
        """Whether it made a file durable."""
        return self.name in _SYNCS and self.result >= 0


def missing() -> str:
    """Why nothing can be traced here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(
        ["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False
    )
    return "" if probe.returncode == 0 else "this process may not trace another"


def tracer(report: Path, *inject: str) -> Sequence[str]:
    """The command under which a process is traced; `calls` reads the report when it has ended.

    Args:
        inject: what is done to calls, as in ``fdatasync:error=EIO:when=1``.
    """
    wanted = ",".join(("openat", *_WRITES, *_SYNCS))
    # `-y` names the files; filtering in the kernel leaves everything else at its own speed.
    command = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-s", "64", "-o", str(report)]
    return [*command, "-e", f"trace={wanted}", *(f"--inject={each}" for each in inject)]


def calls(report: Path) -> Iterator[Call]:
    """The calls in the order in which they came back."""
    begun: dict[str, str] = {}
    for line in report.read_text(errors="replace").splitlines():
        if not (match := _LINE.fullmatch(line)):
            continue
        thread, text = match.groups()
        if unfinished := _UNFINISHED.fullmatch(text):
            begun[thread] = unfinished[1]
            continue
        if resumed := _RESUMED.fullmatch(text):
            text = begun.pop(thread, "") + resumed[1]
        if call := _CALL.match(text):
            name, descriptor, path, arguments, result, opened = call.groups()
            number = int(result if opened else descriptor or -1)
            yield Call(thread, name, number, opened or path or "", arguments, int(result))
