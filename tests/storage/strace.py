"""What a child asked of the kernel, by strace, and what the kernel is made to answer it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.storage.stores import ROOT, command

__all__ = ["Call", "Trace", "needs_strace", "traced"]

_WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
_SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range")
_NAMES = ("openat", "rename", "renameat", "renameat2", "mkdir", "mkdirat")
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((\d+)?(?:<([^>]*)>)?(.*)\) += (-?\d+)(?:<([^>]*)>)?")
_UNFINISHED = re.compile(r"(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
#: What content is kept in: the engines' own files and the framework's, but no locks and no journals for
#: people.
_CONTENT = re.compile(r"\.(db|db-wal|mdb|sst|log|watermark)$|/(MANIFEST-\d+|CURRENT)$")
# `-y` names the files; filtering in the kernel leaves everything else at its own speed.
_STRACE = ("strace", "-f", "-qq", "-y", "--seccomp-bpf", "-s", "64")


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
    def is_sync(self) -> bool:
        """Whether it was to make a file durable."""
        return self.name in _SYNCS

    @property
    def failed(self) -> bool:
        return self.result < 0

    @property
    def made(self) -> Path | None:
        """The name that it gave to a file or directory that content depends on."""
        if self.failed:
            return None
        if self.name == "openat":
            made = self.path if "O_CREAT" in self.text else ""
        elif self.name in _NAMES:
            made = re.findall(r'"([^"]*)"', self.text)[-1]
        else:
            return None
        return Path(made) if _CONTENT.search(made) or self.name.startswith("mkdir") else None

    def writes_to(self, store: Path) -> bool:
        """Whether it wrote content of a store."""
        inside = self.path.startswith(str(store)) and _CONTENT.search(self.path)
        return self.name in _WRITES and bool(inside)

    def says(self, line: str) -> bool:
        """Whether it wrote this line to standard output."""
        return self.descriptor == 1 and self.text.startswith(f', "{line}\\n"')


class Trace(list[Call]):
    """Calls in the order in which they came back."""

    def position(self, line: str) -> int:
        """Where the child said this."""
        return next(at for at, call in enumerate(self) if call.says(line))

    def between(self, start: str, stop: str) -> Trace:
        """The calls between two lines that the child said."""
        return Trace(self[self.position(start) + 1 : self.position(stop)])

    def synchronous(self) -> Callable[[Call], bool]:
        """Tells writes that return when the disk has them, by how their files were opened."""
        descriptors = {
            (call.descriptor, call.path)
            for call in self
            if call.name == "openat" and "O_DSYNC" in call.text
        }
        return lambda call: (call.descriptor, call.path) in descriptors

    def unsynced(self, part: Trace, store: Path) -> list[Call]:
        """The part's writes of content that nothing in the part made durable.

        A sync that failed loses what was written before it: the next one may find nothing to do.
        """
        safe = self.synchronous()
        waiting: list[Call] = []
        lost: list[Call] = []
        for call in part:
            if call.writes_to(store) and not safe(call):
                waiting.append(call)
            elif call.is_sync:
                if call.failed:
                    lost += [each for each in waiting if each.path == call.path]
                waiting = [each for each in waiting if each.path != call.path]
        return lost + waiting

    def content_written(self, store: Path) -> int:
        """Bytes written into files that an engine does not replay but reads."""
        written = [call for call in self if call.writes_to(store) and not call.failed]
        return sum(call.result for call in written if call.path.endswith((".db", ".sst")))

    def unsynced_names(self, above: Path) -> set[Path]:
        """What was made under a directory and is not in a directory that was synced afterwards."""
        names: set[Path] = set()
        for call in self:
            if (made := call.made) is not None and made.is_relative_to(above):
                names.add(made)
            elif call.is_sync and not call.failed:
                names -= {each for each in names if str(each.parent) == call.path}
        return names


def _missing() -> str:
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(
        [*_STRACE, "-o", "/dev/null", "-e", "trace=fsync", "true"], capture_output=True, check=False
    )
    return "" if probe.returncode == 0 else "strace is too old, or may not trace here"


_reason = _missing()
needs_strace = pytest.mark.skipif(bool(_reason), reason=_reason or "strace is here")


def traced(
    report: Path, *arguments: str, bug: str = "", tell: str = "", inject: str = ""
) -> tuple[list[str], Trace]:
    """Runs a child to its end; the lines that it said, and its calls.

    Args:
        report: where strace writes.
        arguments, bug: see `tests.storage.stores.command`.
        tell: what it reads from its standard input.
        inject: what is done to calls, as in ``fdatasync:error=EIO:when=1``; strace counts for each
            thread.
    """
    # A question mark lets strace pass over a call that this architecture has not got.
    wanted = ",".join(f"?{name}" for name in (*_NAMES, *_WRITES, *_SYNCS))
    tracer = [*_STRACE, "-o", str(report), "-e", f"trace={wanted}"]
    tracer += [f"--inject={inject}"] if inject else []
    done = subprocess.run(
        [*tracer, *command(*arguments, bug=bug)],
        cwd=ROOT,
        input=tell,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=not bug,
    )
    lines = report.read_text(errors="replace").splitlines()
    return done.stdout.splitlines(), Trace(_calls(lines))


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for line in lines:
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
