"""What a worker asked of the kernel, by strace, and what the kernel is made to answer it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.testing.storage.rule import NotAttested
from mosaik.testing.storage.workers import Worker

__all__ = ["FULL", "SYNCS", "WRITES", "Call", "Opened", "needs_tracer", "synchronous", "traced"]

WRITES: Final = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
SYNCS: Final = ("fsync", "fdatasync", "msync")
#: What refuses when there is no room.
FULL: Final = (*WRITES, "ftruncate", "fallocate")
#: Everything that changes files, names or positions, and ``sendto``, by which a worker answers. What a
#: machine's kernel has not got is marked as optional.
_TRACED: Final = (
    *WRITES,
    *SYNCS,
    *("openat", "?open", "?creat", "?openat2", "read", "readv", "lseek", "?dup", "?dup2", "?dup3"),
    *("ftruncate", "?truncate", "fallocate", "sync", "syncfs", "mmap", "mkdirat", "?mkdir"),
    *("?rename", "?renameat", "renameat2", "unlinkat", "?unlink", "?rmdir", "linkat", "?link"),
    *("?io_uring_enter", "io_submit", "?sendfile", "copy_file_range", "splice", "sendto"),
)
#: A longer write is recorded up to here, and then noticed to be incomplete.
_LONGEST: Final = 16 * 1024 * 1024
#: Seconds in which a tracer attaches.
_PATIENCE: Final = 10

_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)")
_BEGUN: Final = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_DESCRIPTOR: Final = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_QUOTED: Final = re.compile(r'"[^"]*"')  # all in hexadecimal, so that no quote stands within
_NUMBER: Final = re.compile(r"(?<![\w.])(?:0x[0-9a-f]+|-?\d+)\b")


class Opened(NamedTuple):
    """A descriptor as it stands among a call's arguments, with the file that it is of.

    Attributes:
        number: the descriptor; -1 for the working directory.
        path: of the file at that time.
        deleted: whether the file has no name any more.
    """

    number: int
    path: str
    deleted: bool


class Call(NamedTuple):
    """One system call that came back.

    Attributes:
        thread: who called.
        name: of the call.
        text: its arguments, as they were written down.
        result: what it returned; negative when it failed.
        opened: what descriptor it gave, if it gave one.
        injected: the answer was made up by the tracer; the kernel has not been asked.
        began, ended: where in the order of all calls it did so.
    """

    thread: int
    name: str
    text: str
    result: int
    opened: Opened | None
    injected: bool
    began: int
    ended: int

    @property
    def descriptors(self) -> Sequence[Opened]:
        """Those among the arguments, in their order."""
        return [_opened(found) for found in _DESCRIPTOR.finditer(self._bare)]

    @property
    def strings(self) -> Sequence[bytes]:
        """The strings and buffers among the arguments, in their order."""
        return [_bytes(found[1]) for found in _STRING.finditer(self.text)]

    @property
    def numbers(self) -> Sequence[int]:
        """The plain numbers among the arguments, in their order."""
        return [_number(found) for found in _NUMBER.findall(_DESCRIPTOR.sub("", self._bare))]

    @property
    def _bare(self) -> str:
        """The arguments without the content of strings, which may be long."""
        return _QUOTED.sub('""', self.text)

    @property
    def said(self) -> str:
        """What a worker answers with it; empty when it is no answer."""
        return self.strings[0].decode() if self.name == "sendto" and self.result >= 0 else ""

    def __str__(self) -> str:
        files = ", ".join(Path(each.path).name for each in self.descriptors)
        return f"{self.name}({files})"


def _number(text: str) -> int:
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()  # as modes are written
    return int(text, 8 if octal else 0)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _opened(found: re.Match[str]) -> Opened:
    number = -1 if found[1] == "AT_FDCWD" else int(found[1])
    return Opened(number, _bytes(found[2]).decode(errors="surrogateescape"), bool(found[3]))


def synchronous(calls: Iterable[Call]) -> set[tuple[int, str]]:
    """Descriptors and paths whose writes return when the disk has them."""
    return {
        (call.opened.number, call.opened.path)
        for call in calls
        if call.opened is not None and "SYNC" in call.text.rpartition('"')[2]
    }


@cache
def _missing() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed, so nothing can be seen of what a store asks of the kernel"
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=none", "true"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    return f"processes cannot be traced here: {done.stderr.strip()}" if done.returncode else ""


def needs_tracer() -> None:
    """Stops a rule that cannot be tried here.

    Raises:
        NotAttested: there is no strace, or it may not trace.
    """
    if missing := _missing():
        raise NotAttested(missing)


@contextmanager
def traced(worker: Worker, *inject: str) -> Generator[list[Call]]:
    """Traces all threads of a worker; the list is filled when the block has ended.

    Args:
        inject: what is done to calls, as in ``fdatasync:error=EIO:when=1``. Each thread's calls are
            counted, from here on.

    Raises:
        NotAttested: it cannot be traced.
    """
    needs_tracer()
    worker.ask("traceable")
    found: list[Call] = []
    with tempfile.NamedTemporaryFile("r", prefix="mosaik-trace-") as report:
        # All strings in hexadecimal, and `read` without its buffer: only its length is of interest.
        command = ["strace", "-f", "-y", "-xx", "-s", str(_LONGEST), "-o", report.name]
        command += ["-e", f"trace={','.join(_TRACED)}", "-e", "raw=read,readv"]
        command += [f"--inject={each}" for each in inject]
        with subprocess.Popen(
            [*command, "-p", str(worker.pid)], stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            if "attached" not in line:
                raise NotAttested(f"strace cannot attach: {line}{strace.stderr.read()}".strip())
            try:
                yield found
            finally:
                strace.terminate()
                strace.stderr.read()
        found += _calls(report)


def _calls(lines: Iterable[str]) -> Generator[Call]:
    """The calls in the order in which they came back."""
    begun: dict[int, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        began = number
        if unfinished := _BEGUN.match(line):
            begun[int(unfinished[1])] = f"{unfinished[1]} {unfinished[2]}({unfinished[3]}", number
            continue
        if resumed := _RESUMED.match(line):
            text, began = begun.pop(int(resumed[1]), ("", number))
            line = text + resumed[3]  # noqa: PLW2901
        if not (call := _LINE.match(line)) or call[4] == "?":
            continue  # a signal, an end, or a call that never came back
        opened = _DESCRIPTOR.match(call[4] + call[5])
        yield Call(
            thread=int(call[1]),
            name=call[2],
            text=call[3],
            result=int(call[4], 0),
            opened=_opened(opened) if opened else None,
            injected="(INJECTED)" in call[5],
            began=began,
            ended=number,
        )
