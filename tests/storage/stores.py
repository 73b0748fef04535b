"""Durable stores in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosaik.storage import list_backends

__all__ = ["ROOT", "Child", "child", "command", "place_of", "require", "url_of"]

ROOT = Path(__file__).resolve().parents[2]
_problems = {backend.scheme: backend.problem for backend in list_backends()}


def require(backend: str) -> None:
    """Skips the test when the backend cannot be used here."""
    if problem := _problems.get(backend, "not registered"):
        pytest.skip(f"{backend}: {problem}")


def place_of(name: str, directory: Path) -> Path:
    """Where a backend's store lies in a directory, as in a node's data directory."""
    return directory / ("sqlite.db" if name == "sqlite" else name)


def url_of(name: str, directory: Path, query: str = "") -> str:
    """The URL of that store."""
    return f"{name}://{place_of(name, directory)}?{query}"


class Child:
    """A process of `tests.storage.child`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """The next line that it says; empty when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def until(self, prefix: str) -> list[str]:
        """What it says up to and including a line that begins so.

        Raises:
            AssertionError: it ended before.
        """
        lines: list[str] = []
        while not lines or not lines[-1].startswith(prefix):
            lines.append(self.line())
            assert lines[-1], f"it ended before {prefix!r}: {lines}"
        return lines

    def rest(self) -> list[str]:
        """All that it still says."""
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def command(*arguments: str, bug: str = "") -> list[str]:
    """How one is started: what it is to do, with which backend, in which directory, and how.

    Args:
        bug: what is wrong with it, of those in `tests.storage.bugs`.
    """
    return [sys.executable, "-m", "tests.storage.child", bug, *arguments]


@contextmanager
def child(*arguments: str, bug: str = "", before: Sequence[str] = ()) -> Generator[Child]:
    """Starts one; it is killed at the end if it still runs.

    Args:
        arguments, bug: see `command`.
        before: what it runs under, such as a limit.
    """
    process = subprocess.Popen(
        [*before, *command(*arguments, bug=bug)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()
